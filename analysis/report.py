"""python analysis/report.py STUDY: write the report of a study, of the paper's claims, or of all."""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.ladder import PUBLISHED, SLUG
from aimv2.ablations.request import Request, load_plugins, read_request, requested_names
from aimv2.ablations.searches import path_of, read_search
from aimv2.analysis.document.differences import differences
from aimv2.analysis.evidence.load import load
from aimv2.analysis.evidence.others import FOLDER as OTHERS_DIR
from aimv2.analysis.evidence.others import (
    MAX_BYTES,
    PAGES,
    check_no_pickle,
    check_others,
    keep,
    others_names,
    read_others,
)
from aimv2.analysis.evidence.recorded import FILE, recorded_names
from aimv2.analysis.evidence.records import Records, check_publishable, pack, packed_records, unpack
from aimv2.analysis.inference.looks import look, looks_path
from aimv2.analysis.judgement.findings import findings_of
from aimv2.analysis.usage import report_usage
from aimv2.base.archive import check_archive
from aimv2.base.errors import UsageError, short, unknown
from aimv2.base.files import user
from aimv2.base.processes import in_processes
from aimv2.config.arguments import HELP, as_typed, checked, guarded, key_values, script_of
from aimv2.memory.machine import num_cores

OTHERS = {"check": "aimv2.analysis.claims.check:check", "compare": "aimv2.analysis.compare:compare"}
FLAGS = ("--from-records", "--check")
ALL, CLAIMS, VERIFY, INDEX = "all", "claims", "verify", "index"
MAX_SHOWN = 3  # differences of a file
Rebuilt = Callable[..., Path]  # _from_records with its places, but for ``out``
PLACES = ("runs_dir=", "reports_dir=", "data.cache_dir=", "price=")  # arguments that do not say what


def main(arguments: Sequence[str]) -> int:
    """Build reports; the exit status is 0 when they are written, 1 when a check fails and 2 for bad input."""
    if arguments and arguments[0] in OTHERS:  # which have a help of their own
        return guarded(lambda words: resolve_name(OTHERS[arguments[0]])(words), arguments[1:], as_typed("report"))
    if not arguments or HELP & set(arguments):
        print(report_usage(), end="")
        return 0 if arguments else 2
    if arguments[0] in (commands := {"publish": _publish, "add": _add}):
        return guarded(commands[arguments[0]], arguments[1:], as_typed("report"))
    return guarded(_rebuild, arguments, as_typed("report"))


def script() -> int:
    """The console script."""
    return script_of(main)


def _rebuild(arguments: Sequence[str]) -> int:
    names, flags, values = _read(arguments, FLAGS, {"export": "false", "records_dir": OTHERS_DIR})
    if len(names) != 1:
        raise UsageError(f"which report? Name one: {', '.join([*STUDIES, CLAIMS, INDEX, ALL])}.")
    reports_dir, export = Path(values["reports_dir"]), checked("export", bool, values["export"])
    records_dir = Path(values["records_dir"])
    if flags:
        reports_dir = _with_records(names[0], reports_dir, arguments)
    rebuilt = partial(_from_records, reports_dir=reports_dir, records_dir=records_dir, export=export)
    if "--check" in flags:
        return _check(names[0], reports_dir, rebuilt, _recorded(names[0], reports_dir, records_dir))
    if "--from-records" in flags:
        every = _recorded(names[0], reports_dir, records_dir)
        written: Iterable[Path] = map(partial(rebuilt, out=reports_dir), every)
    else:
        written = _from_runs(names[0], Path(values["runs_dir"]), reports_dir, rebuilt, records_dir, export=export)
    for path in written:
        print(path)
    return 0


def _publish(arguments: Sequence[str]) -> int:
    names, _, values = _read(arguments, (), {})
    if any(word.startswith("runs_dir=") for word in arguments):
        raise UsageError(f"publish reads no runs; write the report from them first: {as_typed('report')} STUDY")
    if len(names) != 1:
        raise UsageError(f"publish which report? Name one: {as_typed('report')} publish STUDY (got {names})")
    name, reports_dir = names[0], Path(values["reports_dir"])
    if reports_dir.name == PUBLISHED:
        raise UsageError(f"reports_dir={reports_dir} has the reports that are published; name the folder around it")
    if name not in (known := recorded_names(reports_dir)):
        raise UsageError(f"{reports_dir} has no report {name!r} with records; it has: {', '.join(known) or 'none'}")
    packed, published = packed_records(reports_dir, name), reports_dir / PUBLISHED
    before = packed_records(published, name) if name in recorded_names(published) else None
    check_publishable(packed, before, STUDIES)
    print(_write(packed, published, published, name, export=False))
    # The verdicts of all studies read what a study of sensitivity found.
    records_dir = Path(OTHERS_DIR)
    others = _recorded(ALL, published, records_dir) if name.startswith(SLUG) else [CLAIMS, INDEX]
    for one in others:
        print(_from_records(one, reports_dir=published, records_dir=records_dir, out=published, export=False))
    return 0


def _add(arguments: Sequence[str]) -> int:
    names, _, values = _read(arguments, (), {"records_dir": OTHERS_DIR})
    if len(names) != 1:
        raise UsageError(f"add which archive? Name one: {as_typed('report')} add ARCHIVE (got {names})")
    reports_dir, records_dir = Path(values["reports_dir"]), Path(values["records_dir"])
    archive = check_archive(Path(names[0]))
    check_no_pickle(archive)
    packed = archive.read(FILE, MAX_BYTES[FILE])
    from aimv2.analysis.sections.study import document

    records = check_others(packed, STUDIES, f"{archive.path}/{FILE}")
    try:
        document(findings_of(records, reports_dir), {})
    except Exception as error:  # the values of others may be anything, and are refused before they are copied
        raise UsageError(f"{archive.path}: no report can be made of these records: {short(str(error))}") from error
    name = keep(archive, records, packed, records_dir, date.today().isoformat())
    print(records_dir / name)
    for one in (f"{PAGES}/{name}", CLAIMS, INDEX):
        print(_from_records(one, reports_dir=reports_dir, records_dir=records_dir, out=reports_dir, export=False))
    return 0


def _read(
    arguments: Sequence[str], allowed: Sequence[str], more: Mapping[str, str]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the names, the flags, and the values by key, with defaults: the two folders and ``more``."""
    flags = [word for word in arguments if word.startswith("--")]
    for flag in flags:
        if flag not in allowed:
            raise unknown("option", flag, allowed)
    defaults = {"runs_dir": "runs", "reports_dir": "reports", **more}
    values = key_values([word for word in arguments if "=" in word], defaults)
    return [word for word in arguments if "=" not in word and word not in flags], flags, defaults | values


def _with_records(name: str, reports_dir: Path, arguments: Sequence[str]) -> Path:
    """Return the folder that was typed, or that has records of this name, or any if it stands for several: that of own
    reports, or of those that are published."""
    if any(word.startswith("reports_dir=") for word in arguments):
        return reports_dir
    for folder in (reports_dir, reports_dir / PUBLISHED):
        names = recorded_names(folder)
        if name in names or (name in (ALL, CLAIMS, INDEX) and names):
            return folder
    return reports_dir


def build(
    request: Request, runs_dir: Path, reports_dir: Path, *, export: bool = False, with_index: bool = True
) -> Path:
    """Write ``reports_dir/<study>/`` from the requested runs, completely or not at all, and the index beside it.

    Args:
        export: as in ``write``.
        with_index: False where the caller writes it.

    Returns:
        The path of ``report.md``.

    Raises:
        UsageError: the folder or the record of looks cannot be written, or a result or a sensitivity cannot be read.
            That another report cannot be read for the index is printed.
    """
    from aimv2.analysis.stamps import keep_stamp

    path = _write(pack(records_of(request, runs_dir)), reports_dir, reports_dir, request.folder, export=export)
    if with_index:
        load_plugins(runs_dir, recorded_names(reports_dir))
        try:
            places = {"reports_dir": reports_dir, "records_dir": Path(OTHERS_DIR), "out": reports_dir}
            _from_records(INDEX, **places, export=export)
        except UsageError as error:  # of another report or file: this report is written
            print(f"note: the index of {reports_dir} was not written: {error}", file=sys.stderr)
    keep_stamp(request, runs_dir, reports_dir)
    return path


def records_of(request: Request, runs_dir: Path) -> Records:
    """Return the records of the requested runs, and record the look at them.

    No look is recorded of a search whose winner has no run, or is the baseline, since nothing is compared.

    Raises:
        UsageError: the record of looks cannot be written, or a result or the record of a search cannot be read.
    """
    search = read_search(path_of(runs_dir, request.folder)) if request.study.is_search else None
    evidence = load(request.cells, runs_dir, request.metrics)
    compared = evidence.runs[evidence.runs["arm"].isin(list(request.study.arms))]
    if request.study.is_search and compared["arm"].nunique() < 2:
        compared = compared[:0]
    this_look = look(looks_path(runs_dir, request.folder), compared["seed"].tolist(), compared["run"].tolist())
    return Records(portable(request), evidence, this_look, search)


def portable(request: Request) -> Request:
    """Return a request without the places of this machine, which change no result."""
    cells = [replace(cell, config=cell.config.without_places()) for cell in request.cells]
    return replace(
        request, cells=cells, arguments=tuple(word for word in request.arguments if not word.startswith(PLACES))
    )


def _write(packed: bytes, reports_dir: Path, out: Path, name: str, *, export: bool) -> Path:
    """Write the report ``name`` from packed records into ``out``.

    Args:
        reports_dir: has the reports whose sensitivity counts.

    Raises:
        UsageError: the records are of another report.
    """
    from aimv2.analysis.document.write import write  # here and below, because claims are checked without figures
    from aimv2.analysis.sections.study import document

    findings = findings_of(unpack(packed, STUDIES, str(reports_dir / name / FILE)), reports_dir)
    if (folder := findings.request.folder) != name:  # that report would be overwritten
        raise UsageError(f"{reports_dir / name / FILE} has the records of {folder!r}; they belong into that folder")
    return write(document(findings, {FILE: packed}), out / findings.request.folder, export=export)


def _from_runs(
    name: str, runs_dir: Path, reports_dir: Path, rebuilt: Rebuilt, records_dir: Path, *, export: bool
) -> Iterator[Path]:
    """Write the named reports from runs, and yield the path of each.

    Args:
        rebuilt: writes those that are made of records only.
    """
    if name in (CLAIMS, INDEX) or name.startswith(f"{PAGES}/"):
        yield rebuilt(name, out=reports_dir)
        return
    for one in sorted(requested_names(runs_dir), key=_order) if name == ALL else [name]:
        request = read_request(runs_dir, one, STUDIES, owner=user())
        yield build(request, runs_dir, reports_dir, export=export, with_index=name != ALL)
    if name == ALL:
        for one in (*_pages_of_others(records_dir), CLAIMS, INDEX):
            yield rebuilt(one, out=reports_dir)


def _pages_of_others(records_dir: Path) -> list[str]:
    return [f"{PAGES}/{name}" for name in others_names(records_dir)]


def _recorded(name: str, reports_dir: Path, records_dir: Path) -> list[str]:
    """Return the names of the requested reports, in the order in which they are written."""
    if name != ALL:
        return [name]
    return [
        *sorted(recorded_names(reports_dir), key=_order),
        *_pages_of_others(records_dir),
        CLAIMS,
        INDEX,
    ]


def _from_records(name: str, *, reports_dir: Path, records_dir: Path, out: Path, export: bool) -> Path:
    """Write one report from its records.

    Args:
        records_dir: has records of others, whose reports are named ``others/NAME``.
    """
    from aimv2.analysis.claims.index import index_document
    from aimv2.analysis.claims.others import others_document
    from aimv2.analysis.claims.page import claims_document
    from aimv2.analysis.document.write import write, write_index

    if name == CLAIMS:
        return write(claims_document(reports_dir, records_dir), out / CLAIMS, export=export)
    if name == INDEX:
        return write_index(index_document(reports_dir, records_dir), out)
    if name.startswith(f"{PAGES}/"):
        others = read_others(records_dir, name.removeprefix(f"{PAGES}/"), STUDIES)
        return write(others_document(others, reports_dir), out / name, export=export)
    return _write(packed_records(reports_dir, name), reports_dir, out, name, export=export)


def _order(name: str) -> tuple[bool, str]:
    """Sensitivity comes first, because verdicts read it."""
    return not name.startswith(SLUG), name


def _check(name: str, reports_dir: Path, rebuilt: Rebuilt, names: Sequence[str]) -> int:
    """Return 0 if every file of the reports is what their records give, and 1 otherwise or without records.

    Differences are printed; ``aimv2.analysis.document.differences`` says when numbers agree.

    Args:
        rebuilt: writes one of the reports ``names``.
    """
    from aimv2.analysis.document.write import INDEX_FILES

    workers = min(len(names), num_cores())
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        written = partial(rebuilt, out=Path(folder))
        for _ in in_processes(written, names, workers, "builds reports"):
            pass
        wrong: dict[Path, list[str]] = {}
        for page in sorted(names):
            if page == INDEX:
                wrong |= differences(reports_dir, Path(folder), INDEX_FILES)
            else:
                wrong |= differences(reports_dir / page, Path(folder, page))
    unchecked = _without_records(reports_dir) if name == ALL else []
    where = f" reports_dir={reports_dir}" if reports_dir != Path("reports") else ""
    for one in unchecked:
        print(
            f"{reports_dir / one} has a report without {FILE}, so its numbers are not checked; write both from runs:"
            f" {as_typed('report')} {one}{where}",
            file=sys.stderr,
        )
    for path, sentences in wrong.items():
        print(f"{path} is not what the records give; write it with {as_typed('report')} {name} --from-records{where}")
        for sentence in sentences[:MAX_SHOWN]:
            print(f"  {sentence}")
        if len(sentences) > MAX_SHOWN:
            print(f"  and {len(sentences) - MAX_SHOWN} more differences")
    return 1 if wrong or unchecked else 0


def _without_records(reports_dir: Path) -> list[str]:
    found = {path.parent.name for path in reports_dir.glob("*/report.md")}
    return sorted(found - {CLAIMS, VERIFY} - set(recorded_names(reports_dir)))


if __name__ == "__main__":
    sys.exit(script())
