"""Write a document to a folder, in all its forms."""

import contextlib
from pathlib import Path

from aimv2.base.errors import UsageError
from aimv2.base.files import replacing
from analysis.document.data import to_json
from analysis.document.html import to_html
from analysis.document.latex import tables_of, to_latex
from analysis.document.markdown import to_markdown
from analysis.document.model import Document
from analysis.figures.style import save


def write(document: Document, target: Path) -> Path:
    """Write ``report.md``, ``.html``, ``.tex`` and ``.json`` with figures, tables and files, completely or not at all.

    The folder is replaced. The same document gives the same bytes.

    Returns:
        The path of ``report.md``.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        with replacing(target) as folder:
            _write(document, folder)
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / "report.md"


def _write(document: Document, folder: Path) -> None:
    figures = folder / "figures"
    figures.mkdir(parents=True)
    for figure in document.figures():
        save(figure.picture, figure.data, figures, figure.name)
    tables = {name: text.encode() for name, text in tables_of(document).items()}
    for name, content in {**document.files, **tables}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "report.md").write_text(to_markdown(document))
    (folder / "report.json").write_text(to_json(document))
    (folder / "report.tex").write_text(to_latex(document))
    (folder / "report.html").write_text(to_html(document, folder))
    with contextlib.suppress(OSError):  # it is not empty
        figures.rmdir()
