"""Whether a report is what its runs give now, by a hash of all that it was made from, which takes no time to read.

The stamps of a study's reports are beside its requests, by the folder of the reports.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from aimv2.ablations.ladder import COMMITTED, FILE, SLUG
from aimv2.ablations.request import FOLDER, Request, request_to_json
from aimv2.ablations.searches import path_of
from aimv2.analysis.document.write import missing_files
from aimv2.analysis.inference.looks import looks_path
from aimv2.base.errors import UsageError
from aimv2.base.files import digest_of, read_json, write_json
from aimv2.runs.provenance import PACKAGE
from aimv2.runs.record import RunFolder

SUFFIX = ".reports.json"
SOURCES = ("ablations", "analysis", "spec")  # what a report is written by


def stamp(request: Request, runs_dir: Path, reports_dir: Path) -> str:
    """Return the hash of the results of runs, of the looks, the search and the sensitivities, and of the code."""
    whole = hashlib.sha256()
    for part in _parts(request, runs_dir, reports_dir):
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


def is_current(request: Request, runs_dir: Path, reports_dir: Path) -> bool:
    """True if the report of these runs was made from what is there now, and all of its files are there."""
    found = _stamps(runs_dir, request).get(_name(reports_dir))
    is_whole = not missing_files(reports_dir / request.folder) and not missing_files(reports_dir, is_index=True)
    return is_whole and found == stamp(request, runs_dir, reports_dir)


def keep_stamp(request: Request, runs_dir: Path, reports_dir: Path) -> None:
    """Record what a report was just made from; if it cannot be written, the next launch writes the report again."""
    stamps = _stamps(runs_dir, request) | {_name(reports_dir): stamp(request, runs_dir, reports_dir)}
    with contextlib.suppress(OSError):
        write_json(_path(runs_dir, request), stamps)


def _parts(request: Request, runs_dir: Path, reports_dir: Path) -> Iterator[bytes]:
    yield json.dumps(request_to_json(request), sort_keys=True).encode()
    alone = (cell for metric in request.metrics for cell in metric.cells(request.cells))
    results = (RunFolder(runs_dir, cell.name).path / "result.json" for cell in (*request.cells, *alone))
    own = reports_dir / request.folder
    sensitivities = (
        path
        for folder in dict.fromkeys((reports_dir, COMMITTED))
        for path in sorted(folder.glob(f"{SLUG}*/{FILE}"))
        if path.parent != own
    )
    for path in (*results, looks_path(runs_dir, request.folder), path_of(runs_dir, request.folder), *sensitivities):
        yield str(path).encode()
        yield _content(path)
    for package in SOURCES:
        yield digest_of(PACKAGE / package).encode()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _stamps(runs_dir: Path, request: Request) -> dict[str, str]:
    try:
        found = read_json(_path(runs_dir, request))
    except UsageError:
        return {}
    return found if isinstance(found, dict) else {}


def _path(runs_dir: Path, request: Request) -> Path:
    return runs_dir / FOLDER / f"{request.folder}{SUFFIX}"


def _name(reports_dir: Path) -> str:
    return str(reports_dir.resolve())
