"""Write a document to a folder, in all its forms."""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from aimv2.analysis.document.data import to_json
from aimv2.analysis.document.html import to_html
from aimv2.analysis.document.latex import tables_of
from aimv2.analysis.document.markdown import DETAILS, to_details, to_markdown
from aimv2.analysis.document.model import Document
from aimv2.analysis.document.style import save
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, replacing

JSON = "report.json"
REPORT = {name: name for name in ("report.md", "report.html", JSON)}
KEPT = ("records.parquet", "measurements.json")  # of which reports are made, and which no report gives back
INDEX = {"report.md": "index.md", "report.html": "index.html", JSON: "index.json"}
INDEX_FILES = (*INDEX.values(), "figures/*")


def write(document: Document, target: Path, *, export: bool = False) -> Path:
    """Write ``report.md``, ``.html`` and ``.json`` with details, figures and files, completely or not at all.

    The files of the report that is there are replaced, and others stay. The same document gives the same bytes.

    Args:
        export: True to write what papers and other programs take too: ``document.exports``, tables as
            ``tables/NAME.tex``, figures as ``figures/NAME.pdf`` and their data as ``figures/NAME.csv``.

    Returns:
        The path of ``report.md``.

    Raises:
        UsageError: the folder cannot be written, or is a file.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, and a report is a folder; name another")
    try:
        with replacing(target) as folder:
            _write(document, folder, export=export)
            _keep_others(target, folder)
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / "report.md"


def write_index(document: Document, reports_dir: Path) -> Path:
    """Write ``index.md``, ``index.html`` and ``index.json`` beside the reports, with figures.

    The files of the index before are replaced, and those that this one does not have are deleted.

    Raises:
        UsageError: the folder cannot be written, or a file that is not the index's has the name of one.
    """
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
        before = own_files(reports_dir / INDEX[JSON])
        with TemporaryDirectory(dir=reports_dir, prefix=".index-") as name:
            folder = Path(name)
            _write(document, folder, export=False, names=INDEX)
            files = _files_of(folder)
            if taken := [one for one in files if one not in before and (reports_dir / one).exists()]:
                raise UsageError(f"{reports_dir / taken[0]} is not a file of an index of reports; move it")
            (reports_dir / "figures").mkdir(exist_ok=True)
            for one in files:
                (folder / one).replace(reports_dir / one)
        for old in before - set(files):
            (reports_dir / old).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"the index in {reports_dir} cannot be written: {error.strerror}") from error
    return reports_dir / INDEX["report.md"]


def check_replaceable(target: Path) -> None:
    """Refuse a place that a report without records would spoil.

    Raises:
        UsageError: it is a file; or the folder has files and no report, or a report with records, which would be lost.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, and a report is a folder; name another")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / "report.md").exists():
        raise UsageError(f"{target} has files and no report; name another folder")
    if found := next((name for name in KEPT if (target / name).exists()), ""):
        raise UsageError(f"{target} is a report with {found}, which would be lost; name another folder")


def _write(document: Document, folder: Path, *, export: bool, names: Mapping[str, str] = REPORT) -> None:
    """Write all files into a new folder.

    Args:
        names: those of the pages.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True)
    for figure in document.figures():
        save(figure.picture, figure.data, figures, figure.name, export=export)
    files = dict(document.files)
    if export:
        files |= {**document.exports, **{name: text.encode() for name, text in tables_of(document).items()}}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / names["report.md"]).write_text(to_markdown(document))
    if document.details:
        (folder / DETAILS).write_text(to_details(document))
    (folder / names["report.html"]).write_text(to_html(document, folder))
    with contextlib.suppress(OSError):  # it is not empty
        figures.rmdir()
    (folder / names[JSON]).write_text(to_json(document, [*_files_of(folder), names[JSON]]))


def _keep_others(target: Path, folder: Path) -> None:
    """Copy the files that are not of the report in ``target`` to its new folder, unless that has one of that name."""
    for name in set(_files_of(target)) - own_files(target / JSON):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(target / name, folder / name)


def own_files(page: Path) -> set[str]:
    """Return the files that the JSON page of a report or an index lists as its own; none if it cannot be read."""
    try:
        found = read_json(page)["files"]
    except (UsageError, KeyError, TypeError):
        return set()
    names = [Path(name) for name in found if isinstance(name, str)] if isinstance(found, list) else []
    return {name.as_posix() for name in names if not name.is_absolute() and ".." not in name.parts}


def missing_files(folder: Path, *, is_index: bool = False) -> bool:
    """True if a file of a report, or of the index of reports, is not there, or there is none."""
    files = own_files(folder / (INDEX[JSON] if is_index else JSON))
    return not files or not all((folder / name).is_file() for name in files)


def _files_of(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
