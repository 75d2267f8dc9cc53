"""Write a document to a folder as Markdown, HTML and JSON with its figures, or print it."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from rich.console import Console
from rich.markdown import Markdown

from aimv2.analysis.document.model import Document, Table, walk
from aimv2.analysis.document.pages import to_html, to_json, to_markdown, to_plain
from aimv2.analysis.document.style import save
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, replacing

REPORT, INDEX = "report", "index"  # names of the pages of a report, and of the index of reports
RECORDS = "records.parquet"  # of which reports are made, and which no report gives back
WIDTH = 120  # characters of the output where it is no terminal


def write(document: Document, target: Path, *, export: bool = False) -> Path:
    """Write a report and its figures and files, completely or not at all; return the path of ``report.md``.

    The files of the report that is there are replaced, and all others stay. ``export`` writes what papers and other
    programs take too: ``document.exports``, tables as LaTeX, figures as PDF and their data as CSV.

    Raises:
        UsageError: the folder cannot be written, or is a file.
    """
    _check_folder(target)
    try:
        with replacing(target) as folder:
            _write(document, folder, REPORT, export=export)
            for name in set(_files_of(target)) - own_files(target, REPORT):
                if not (folder / name).exists():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(target / name, folder / name, follow_symlinks=False)
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / f"{REPORT}.md"


def write_index(document: Document, reports_dir: Path) -> Path:
    """Write the index beside the reports, with figures. The files of the index that is there are replaced, and deleted
    if this one has none of their name; another file that has the name of one is an error, as are those of ``write``."""
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
        before = own_files(reports_dir, INDEX)
        with TemporaryDirectory(dir=reports_dir, prefix=".index-") as name:
            folder = Path(name)
            _write(document, folder, INDEX, export=False)
            files = _files_of(folder)
            if taken := [file for file in files if file not in before and (reports_dir / file).exists()]:
                raise UsageError(f"{reports_dir / taken[0]} is not a file of an index of reports; move it")
            for file in files:
                (reports_dir / file).parent.mkdir(exist_ok=True)
                (folder / file).replace(reports_dir / file)
        for file in before - set(files):
            (reports_dir / file).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"the index in {reports_dir} cannot be written: {error.strerror}") from error
    return reports_dir / f"{INDEX}.md"


def show(document: Document, out: str | None, *, export: bool) -> None:
    """Print a document without its figure, and write it to ``out`` as ``write`` does; errors are those of ``write``."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(Markdown(to_markdown(replace(document, lead=None))))
    if out:
        print(f"report: {write(document, Path(out), export=export)}")


def check_replaceable(target: Path) -> None:
    """Refuse a place that a report without records would spoil: a file, a folder of other files, or with records."""
    _check_folder(target)
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / "report.md").exists():
        raise UsageError(f"{target} has files and no report; name another folder")
    if (target / RECORDS).exists():
        raise UsageError(f"{target} is a report with {RECORDS}, which would be lost; name another folder")


def _check_folder(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, and a report is a folder; name another")


def _write(document: Document, folder: Path, name: str, *, export: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for figure in document.figures():
        save(figure.picture, figure.data, folder / "figures", figure.name, export=export)
    files = dict(document.files)
    if export:
        blocks = walk([*document.sections, *document.details])
        tables = [block for block in blocks if isinstance(block, Table) and block.name]
        files |= {**document.exports, **{f"tables/{table.name}.tex": _latex(table).encode() for table in tables}}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    markdown = to_markdown(document)
    (folder / f"{name}.md").write_text(markdown)
    (folder / f"{name}.html").write_text(to_html(markdown, folder))
    (folder / f"{name}.json").write_text(to_json(document, [*_files_of(folder), f"{name}.json"]))


def _files_of(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def own_files(folder: Path, name: str) -> set[str]:
    """Return the files of a report, or of an index of reports, that its JSON lists, or else its pages; none without a
    JSON that can be read."""
    try:
        listed = read_json(folder / f"{name}.json").get("files", [f"{name}.{form}" for form in ("md", "html", "json")])
    except (UsageError, AttributeError):
        return set()
    paths = [Path(file) for file in listed if isinstance(file, str)] if isinstance(listed, list) else []
    return {path.as_posix() for path in paths if not path.is_absolute() and ".." not in path.parts}


def _latex(table: Table) -> str:
    """Return a table with booktabs' rules for a paper: plain text with minus signs, without links and images."""
    names, *rows = ([_with_minus(to_plain(cell)) for cell in line] for line in (table.columns, *table.rows))
    text = pd.DataFrame(rows, columns=names).to_latex(index=False, escape=True)
    return f"% needs \\usepackage{{booktabs}} and LuaLaTeX or XeLaTeX\n{text}"


def _with_minus(text: str) -> str:
    return re.sub(r"(?<![\w.)])-(?=\.?\d)", "−", text)
