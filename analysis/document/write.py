"""Write a document to a folder, in all its forms."""

import contextlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from aimv2.base.errors import UsageError
from aimv2.base.files import replacing
from analysis.document.data import to_json
from analysis.document.html import to_html
from analysis.document.latex import tables_of
from analysis.document.markdown import DETAILS, to_details, to_markdown
from analysis.document.model import Document
from analysis.document.style import save

INDEX = {"report.md": "index.md", "report.html": "index.html", "report.json": "index.json"}
INDEX_FILES = (*INDEX.values(), "figures/*")


def write(document: Document, target: Path, *, export: bool = False) -> Path:
    """Write ``report.md``, ``.html`` and ``.json`` with details, figures and files, completely or not at all.

    The folder is replaced. The same document gives the same bytes.

    Args:
        export: True to write what papers and other programs take too: ``document.exports``, tables as
            ``tables/NAME.tex``, figures as ``figures/NAME.pdf`` and their data as ``figures/NAME.csv``.

    Returns:
        The path of ``report.md``.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        with replacing(target) as folder:
            _write(document, folder, export=export)
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / "report.md"


def write_index(document: Document, reports_dir: Path) -> Path:
    """Write ``index.md``, ``index.html`` and ``index.json`` beside the reports, with figures.

    Figures of the index before that this one does not have are deleted.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
        before, figures = reports_dir / INDEX["report.md"], reports_dir / "figures"
        shown = re.findall(r"\(figures/(\w+)\.svg\)", before.read_text()) if before.exists() else []
        with TemporaryDirectory(dir=reports_dir, prefix=".index-") as name:
            folder = Path(name)
            _write(document, folder, export=False)
            for page, of_index in INDEX.items():
                (folder / page).replace(reports_dir / of_index)
            figures.mkdir(exist_ok=True)
            for path in folder.glob("figures/*"):
                path.replace(figures / path.name)
        for old in set(shown) - {figure.name for figure in document.figures()}:
            (figures / f"{old}.svg").unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"the index in {reports_dir} cannot be written: {error.strerror}") from error
    return reports_dir / INDEX["report.md"]


def check_replaceable(target: Path) -> None:
    """Refuse a folder with other things than a report, which ``write`` would replace.

    Raises:
        UsageError: the folder has files, and no report.
    """
    if target.is_dir() and any(target.iterdir()) and not (target / "report.md").exists():
        raise UsageError(f"{target} has files and no report, and a report would replace it; name another folder")


def _write(document: Document, folder: Path, *, export: bool) -> None:
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
    (folder / "report.md").write_text(to_markdown(document))
    if document.details:
        (folder / DETAILS).write_text(to_details(document))
    (folder / "report.json").write_text(to_json(document))
    (folder / "report.html").write_text(to_html(document, folder))
    with contextlib.suppress(OSError):  # it is not empty
        figures.rmdir()
