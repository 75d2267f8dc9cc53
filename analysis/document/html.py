"""A document as one HTML page that needs no other file and no network."""

import base64
import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from aimv2.analysis.document.data import DIGITS
from aimv2.analysis.document.model import (
    VERDICTS,
    Cell,
    Document,
    Figure,
    Table,
    lines_of,
)
from aimv2.analysis.document.style import GRID, INK, PAPER, SOFT

HERE = Path(__file__).parent
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
INTERVAL = re.compile(rf"(?:Δ )?(?:[≥>] ?)?(?:{NUMBER} )?\[{NUMBER}, {NUMBER}\]")
LEADING = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")  # as page.js has it
ROUNDED = 0.005  # relative difference by which texts round numbers
USUAL = 5  # cells with the same note, from which a table says it once
BROAD, WIDE = 7, 10  # columns, from which a table is printed in small letters, and across
TALL = 15  # rows, from which a table scrolls below its header
LONG = 60  # characters, from which a cell needs room

# Links between the pages of reports, in Markdown and in HTML.
PAGES = {
    r"(^|/)(report|index)\.md$": r"\1\2.html",
    r"^details\.md$": "#details",
    r"^details\.md#": "#",
}

# Colours of figures that the page sets, so that they can be read in the dark.
PAGE_COLOURS = {INK: "currentColor", SOFT: "var(--soft)", GRID: "var(--line)", PAPER: "var(--paper)"}


def to_html(document: Document, folder: Path) -> str:
    """Return a document as a page.

    HTML in its text is escaped, and images that are not in ``document.files`` become their text.

    Args:
        folder: the report's folder, with its figures in ``figures/``.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        document=document,
        page=_Page(document, folder),
        css=Markup((HERE / "page.css").read_text()),
        js=Markup((HERE / "page.js").read_text()),
        classes=_classes,
        is_prose=_is_prose,
        usual_note=_usual_note,
        slug=slug,
        verdicts=VERDICTS,
    )


class _ShownCell(NamedTuple):
    """A cell as the template reads it.

    Attributes:
        value: as text, for sorting; empty if the script sorts by the text.
        number: of the note.
    """

    lines: Sequence[Markup]
    is_long: bool
    value: str
    note: str
    number: int


class _Page:
    """What the template asks for that depends on the whole page: the numbers of figures and notes, and its images."""

    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._folder = folder
        self._markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Inline).enable("strikethrough")
        self._num_figures = self._num_notes = 0

    def inline(self, text: str) -> Markup:
        """Return inline Markdown as HTML."""
        return Markup(self._markdown.renderInline(text, {"image": self._image}))

    def picture(self, figure: Figure) -> Markup:
        """Return the markup of a figure, which may be shown twice."""
        self._num_figures += 1
        path = self._folder / "figures" / f"{figure.name}.svg"
        return inline_svg(path.read_text(), f"f{self._num_figures}-", figure.alt)

    def cell(self, cell: str | Cell, usual_note: str) -> _ShownCell:
        """Return a cell as the template reads it, without the table's usual note."""
        if isinstance(cell, str):
            cell = Cell((cell,))
        note = "" if cell.note == usual_note else cell.note
        self._num_notes += bool(note)
        return _ShownCell(
            lines=[self.inline(line) for line in cell.lines or ("",)],
            is_long=_is_long(cell),
            value=_key(cell),
            note=note,
            number=self._num_notes,
        )

    def _image(self, source: str, alt: str) -> Markup:
        """Return an image of the document, inlined; of any other, the text, as text may be from others' records."""
        content = self._document.files.get(source)
        if content is None:
            return escape(alt)
        data = base64.b64encode(content).decode()
        return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, alt)


def slug(title: str) -> str:
    """Return the anchor of a section."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


class _Inline(RendererHTML):
    """Inline Markdown in which intervals, and numbers with their unit, stay on one line, and images are inlined."""

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        text = html.escape(tokens[idx].content)
        text = re.sub(r"(\d) %", "\\1\u00a0%", text)
        return INTERVAL.sub(r'<span class="number">\g<0></span>', text)

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        target = str(tokens[idx].attrs["href"])
        for markdown, page in PAGES.items():
            target = re.sub(markdown, page, target)
        tokens[idx].attrSet("href", target)
        return self.renderToken(tokens, idx, options, env)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return str(env["image"](str(tokens[idx].attrs["src"]), tokens[idx].content))


def _usual_note(table: Table) -> str:
    """Return the note of most cells, which stands above the table; empty if they are few, or a number has none."""
    cells = [cell for row in table.rows for cell in row if isinstance(cell, Cell)]
    notes = Counter(cell.note for cell in cells if cell.note or cell.value is not None)
    ((note, number),) = notes.most_common(1) or [("", 0)]
    return note if number >= USUAL and 2 * number > notes.total() and not notes[""] else ""


def _key(cell: Cell) -> str:
    """Return the value of a cell by which its column is sorted, if it has one that its text does not begin with."""
    if cell.value is None or not math.isfinite(cell.value):
        return ""
    first = LEADING.match(cell.lines[0].replace(",", "")) if cell.lines else None
    if first and math.isclose(float(first[0]), cell.value, rel_tol=ROUNDED):
        return ""
    return f"{cell.value:.{DIGITS}g}"


def _is_long(cell: str | Cell) -> bool:
    return any(len(line) >= LONG for line in lines_of(cell))


def _classes(table: Table) -> str:
    """Return what the page's style and script know of a table."""
    classes = {
        "sortable": len(table.rows) > 2 and any(table.columns),
        "filterable": table.is_filterable,
        "tall": len(table.rows) >= TALL,
        "broad": len(table.columns) >= BROAD,
        "wide": len(table.columns) >= WIDE,
        "prose": _is_prose(table),
    }
    return " ".join(name for name, is_there in classes.items() if is_there)


def _is_prose(table: Table) -> bool:
    """True for a table of sentences, which a phone shows one cell below the other."""
    num_long = sum(any(map(_is_long, row)) for row in table.rows)
    return 2 * num_long > len(table.rows) and len(table.columns) < WIDE


def inline_svg(svg: str, prefix: str, alt: str) -> Markup:
    """Return a figure's markup with its text for screen readers, ids of its own, and the colours of the page.

    Matplotlib repeats ids such as ``clip0`` in every figure.
    """
    svg = svg[svg.index("<svg") :]
    size = re.search(r'width="([\d.]+)pt"', svg)
    width = f' style="--width: {float(size[1]):.0f}pt"' if size else ""
    svg = re.sub(r' (width|height)="[^"]*"', "", svg, count=2)  # the first two are those of the whole
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    for own, of_page in PAGE_COLOURS.items():
        svg = svg.replace(own, of_page)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"{width}', 1))
