"""python analysis/report.py STUDY: write the report of a study, of the paper's claims, or of all."""

import filecmp
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ablations.catalogue import STUDIES
from ablations.request import Request, read_request, requested_names
from aimv2.cli import guarded
from aimv2.config.arguments import HELP, key_values
from aimv2.errors import UsageError
from aimv2.runs.files import user
from analysis.document.write import write
from analysis.inference.looks import look, looks_path
from analysis.judgement.findings import baseline_of, judge
from analysis.judgement.sensitivity import SLUG, read_sensitivity
from analysis.load import load
from analysis.records import FILE, Records, pack, packed_records, recorded_names, unpack
from analysis.sections.study import document

USAGE = """usage: python analysis/report.py STUDY|claims|all [runs_dir=runs] [reports_dir=reports]
       python analysis/report.py check CLAIM [limit=2h]

Write reports as Markdown, HTML, LaTeX and JSON, from finished runs or from the records beside an earlier report.

  STUDY                        a launched study, or the name of its report where scale or sweep.equal is not the default
                               (scaling_tiny, scaling_equal_flops)
  claims                       a page with a verdict on every claim of the paper, from the records of all studies
  all                          all launched studies, then the claims
  --from-records               read reports_dir/STUDY/records.parquet in place of runs
  --check                      write nothing; compare the pages with their records, and fail if one differs
  check CLAIM                  run what a claim needs, and print the verdict; check --list lists the claims
  debug=true                   show the traceback of an error
"""
FLAGS = ("--from-records", "--check")
ALL = "all"
PLACES = ("runs_dir=", "reports_dir=")  # arguments that say where, not what


def main(arguments: Sequence[str]) -> int:
    """Build reports; the exit status is 0 when they are written, 1 when a check fails and 2 for bad input."""
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    return guarded(_rebuild, arguments)


def script() -> int:
    """The console script."""
    return main(sys.argv[1:])


def _rebuild(arguments: Sequence[str]) -> int:
    flags = [word for word in arguments if word.startswith("--")]
    names = [word for word in arguments if "=" not in word and word not in flags]
    if unknown := set(flags) - set(FLAGS):
        raise UsageError(f"{sorted(unknown)[0]} is not an option. Allowed: {', '.join(FLAGS)}.")
    if len(names) != 1:
        raise UsageError(f"which report? Name one: {', '.join([*STUDIES, 'claims', 'all'])}.")
    folders = {"runs_dir": "runs", "reports_dir": "reports"}
    values = folders | key_values([word for word in arguments if "=" in word], folders)
    reports_dir = Path(values["reports_dir"])
    if "--check" in flags:
        return _check(names[0], reports_dir)
    if "--from-records" in flags:
        written = _from_records(names[0], reports_dir, reports_dir)
    else:
        written = _from_runs(names[0], Path(values["runs_dir"]), reports_dir)
    for path in written:
        print(path)
    return 0


def build(request: Request, runs_dir: Path, reports_dir: Path) -> Path:
    """Write ``reports_dir/<study>/`` from the requested runs, completely or not at all.

    Returns:
        The path of ``report.md``.

    Raises:
        UsageError: the folder or the record of looks cannot be written, or a result or a sensitivity cannot be read.
    """
    evidence = load(request.cells, runs_dir)
    compared = evidence.runs[evidence.runs["arm"].isin(list(request.study.arms))]
    this_look = look(looks_path(runs_dir, request.folder), compared["seed"].tolist(), compared["run"].tolist())
    portable = replace(request, arguments=tuple(word for word in request.arguments if not word.startswith(PLACES)))
    return _write(pack(Records(portable, evidence, this_look)), reports_dir, reports_dir)


def _write(packed: bytes, reports_dir: Path, out: Path) -> Path:
    """Write the report of packed records into ``out``; ``reports_dir`` has the reports whose sensitivity counts."""
    records = unpack(packed, STUDIES)
    sensitivity = read_sensitivity(reports_dir, baseline_of(records.request))
    findings = judge(records.request, records.evidence, records.look, sensitivity)
    return write(document(findings, {FILE: packed}), out / records.request.folder)


def _from_runs(name: str, runs_dir: Path, reports_dir: Path) -> Iterator[Path]:
    """Write the named reports from runs, and yield the path of each."""
    names = requested_names(runs_dir) if name == ALL else [name]
    for one in sorted(names, key=_order):
        yield build(read_request(runs_dir, one, STUDIES, owner=user()), runs_dir, reports_dir)


def _from_records(name: str, reports_dir: Path, out: Path) -> Iterator[Path]:
    """Write the named reports from their records, and yield the path of each."""
    names = recorded_names(reports_dir) if name == ALL else [name]
    for one in sorted(names, key=_order):
        yield _write(packed_records(reports_dir, one), reports_dir, out)


def _order(name: str) -> tuple[bool, str]:
    """Sensitivity comes first, because verdicts read it."""
    return not name.startswith(SLUG), name


def _check(name: str, reports_dir: Path) -> int:
    """Return 0 if every file of the reports is what their records give, and 1 otherwise."""
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        pages = [path.parent.name for path in _from_records(name, reports_dir, Path(folder))]
        wrong = sorted(path for page in pages for path in _differences(reports_dir / page, Path(folder, page)))
    for path in wrong:
        print(f"{path} is not what the records give; write it with python analysis/report.py {name} --from-records")
    return 1 if wrong else 0


def _differences(one: Path, other: Path) -> Iterator[Path]:
    """Yield the files of a folder that another folder lacks or has with other content, and those that it lacks."""
    names = {path.relative_to(folder) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    for name in names:
        are_both = all((folder / name).is_file() for folder in (one, other))
        if not are_both or not filecmp.cmp(one / name, other / name, shallow=False):
            yield one / name


if __name__ == "__main__":
    sys.exit(script())
