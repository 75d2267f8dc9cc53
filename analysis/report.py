"""python analysis/report.py STUDY: write the report of a study, of the paper's claims, or of all."""

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.ladder import PUBLISHED, SLUG
from aimv2.ablations.recorded_runs import FILE, recorded_names
from aimv2.ablations.request import Request, load_plugins, read_request, requested_names
from aimv2.analysis.document.differences import differences
from aimv2.analysis.evidence.records import pack, packed_records, records_of, unpack
from aimv2.analysis.judgement.findings import findings_of
from aimv2.analysis.usage import report_usage
from aimv2.base.archive import files_of, unpack_zip
from aimv2.base.errors import UsageError, count, unknown
from aimv2.base.files import user
from aimv2.base.processes import in_processes
from aimv2.config.arguments import HELP, as_typed, checked, guarded, key_values, script_of
from aimv2.memory.machine import num_cores

COMMANDS = {  # beside the names of reports
    "check": "aimv2.analysis.claims.check:check",
    "power": "aimv2.analysis.claims.power:power",
    "publish": "aimv2.analysis.publish:publish",
}
FLAGS = ("--from-records", "--check")
ALL, CLAIMS, VERIFY, INDEX = "all", "claims", "verify", "index"
MAX_SHOWN = 3  # differences of a file
Rebuild = Callable[..., Path]  # _from_records with its folders, but for ``out``


def main(arguments: Sequence[str]) -> int:
    """Build reports; the exit status is 0 when they are written, 1 when a check fails and 2 for bad input."""
    command = next(iter(arguments), "")
    if not arguments or (HELP & set(arguments) and command != "check"):
        print(report_usage(), end="")
        return 0 if arguments else 2
    if command == "unpack":
        return guarded(_unpack, arguments[1:], as_typed("report"))
    if command in COMMANDS:
        return guarded(lambda words: resolve_name(COMMANDS[command])(words), arguments[1:], as_typed("report"))
    return guarded(_reports, arguments, as_typed("report"))


def script() -> int:
    """The console script."""
    return script_of(main)


def _reports(arguments: Sequence[str]) -> int:
    names, flags, values = _read(arguments, FLAGS, {"export": "false"})
    if len(names) != 1:
        raise UsageError(f"which report? Name one: {', '.join([*STUDIES, CLAIMS, INDEX, ALL])}.")
    name, reports_dir, export = names[0], Path(values["reports_dir"]), checked("export", bool, values["export"])
    if flags:
        reports_dir = _with_records(name, reports_dir, arguments)
    rebuild = partial(_from_records, reports_dir=reports_dir, export=export)
    if "--check" in flags:
        return _check(name, reports_dir, rebuild)
    runs_dir = Path(values["runs_dir"])
    known = recorded_names(reports_dir) if flags else requested_names(runs_dir)
    if name not in (*known, *STUDIES, ALL, CLAIMS, INDEX):
        raise unknown("report", name, [*known, *STUDIES, ALL, CLAIMS, INDEX, *COMMANDS, "unpack"])
    for report in _named(name, known):
        if flags or report in (CLAIMS, INDEX):  # which are made of records
            path = rebuild(report, out=reports_dir)
        else:
            request = read_request(runs_dir, report, STUDIES, owner=user())
            path = build(request, runs_dir, reports_dir, export=export, with_index=name != ALL)
        print(path)
    return 0


def _named(name: str, known: Iterable[str]) -> list[str]:
    """Return the names of the requested reports, in the order in which they are written: verdicts read sensitivity."""
    if name != ALL:
        return [name]
    return [*sorted(known, key=lambda report: (not report.startswith(SLUG), report)), CLAIMS, INDEX]


def _unpack(arguments: Sequence[str]) -> int:
    """Unpack what others have published, and print how its reports are written again."""
    names, _, values = _read(arguments, (), {"to": ""})
    if len(names) != 1 or not values["to"]:
        raise UsageError(f"unpack what, and where? Type: {as_typed('report')} unpack FILE.zip to=FOLDER")
    folder = Path(values["to"])
    unpack_zip(Path(names[0]), folder)
    for name in recorded_names(folder):
        print(f"{folder / name}; to write its report: {as_typed('report')} {name} --from-records reports_dir={folder}")
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
    """Write ``reports_dir/<study>/`` from the requested runs, completely or not at all, and the index beside it, unless
    the caller does; return the path of ``report.md``.

    Raises:
        UsageError: the folder or the record of looks cannot be written, or a result or a sensitivity cannot be read.
            That another report cannot be read for the index is printed.
    """
    packed = pack(records_of(request, runs_dir))
    path = _write(packed, request.folder, reports_dir=reports_dir, out=reports_dir, export=export)
    if with_index:
        load_plugins(runs_dir, recorded_names(reports_dir))
        try:
            _from_records(INDEX, reports_dir=reports_dir, out=reports_dir, export=export)
        except UsageError as error:  # of another report or file: this report is written
            print(f"note: the index of {reports_dir} was not written: {error}", file=sys.stderr)
    return path


def _from_records(name: str, *, reports_dir: Path, out: Path, export: bool) -> Path:
    """Write one report from its records."""
    from aimv2.analysis.claims.index import index_document
    from aimv2.analysis.claims.page import claims_document
    from aimv2.analysis.document.write import write, write_index

    if name == CLAIMS:
        return write(claims_document(reports_dir), out / CLAIMS, export=export)
    if name == INDEX:
        return write_index(index_document(reports_dir), out)
    return _write(packed_records(reports_dir / name / FILE), name, reports_dir=reports_dir, out=out, export=export)


def _write(packed: bytes, name: str, *, reports_dir: Path, out: Path, export: bool) -> Path:
    """Write a report from packed records into ``out``; UsageError if they are of another report. The sensitivity of
    those in ``reports_dir`` counts."""
    from aimv2.analysis.document.write import write  # here and above, because claims are checked without figures
    from aimv2.analysis.sections.study import document

    findings = findings_of(unpack(packed, STUDIES, str(reports_dir / name / FILE)), reports_dir)
    if (folder := findings.request.folder) != name:  # that report would be overwritten
        raise UsageError(f"{reports_dir / name / FILE} has the records of {folder!r}; they belong into that folder")
    return write(document(findings, {FILE: packed}), out / name, export=export)


def _check(name: str, reports_dir: Path, rebuild: Rebuild) -> int:
    """Return 0 if every file of the reports is what their records give, and 1 otherwise or without records.

    Differences are printed; ``aimv2.analysis.document.differences`` says when numbers agree.
    """
    from aimv2.analysis.document.write import own_files

    names = _named(name, recorded_names(reports_dir))
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        build_in = partial(rebuild, out=Path(folder))
        for _ in in_processes(build_in, names, min(len(names), num_cores()), "builds reports"):
            pass
        wrong: dict[Path, list[str]] = {}
        for page in sorted(names):
            if page == INDEX:  # other files stand beside it
                files = {name for place in (reports_dir, Path(folder)) for name in own_files(place, INDEX)}
                wrong |= differences(reports_dir, Path(folder), files)
            else:
                both = reports_dir / page, Path(folder, page)
                wrong |= differences(*both, {name for place in both for name in files_of(place)})
    pages = {path.parent.name for path in reports_dir.glob("*/report.md")} - {CLAIMS, VERIFY}
    unchecked = sorted(pages - set(recorded_names(reports_dir))) if name == ALL else []
    where = f" reports_dir={reports_dir}" if reports_dir != Path("reports") else ""
    for report in unchecked:
        print(
            f"{reports_dir / report} has a report without {FILE}, so its numbers are not checked; write both from runs:"
            f" {as_typed('report')} {report}{where}",
            file=sys.stderr,
        )
    for path, sentences in wrong.items():
        print(f"{path} is not what the records give; write it with {as_typed('report')} {name} --from-records{where}")
        for sentence in sentences[:MAX_SHOWN]:
            print(f"  {sentence}")
        if len(sentences) > MAX_SHOWN:
            print(f"  and {len(sentences) - MAX_SHOWN} more differences")
    if wrong or unchecked:
        return 1
    print(f"every file of {count(len(names), 'report')} in {reports_dir} is what the records give")
    return 0


if __name__ == "__main__":
    sys.exit(script())
