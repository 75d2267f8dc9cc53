"""A document as one HTML page that needs no other file and no network."""

import base64
import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from analysis.document.data import DIGITS
from analysis.document.model import (
    Block,
    Bullets,
    Cell,
    Code,
    Document,
    Figure,
    Paragraph,
    Quote,
    Section,
    Table,
    lines_of,
    walk,
)
from analysis.document.style import GRID, INK, PAPER, SOFT

HERE = Path(__file__).parent
RUNS = "runs"  # the name of the table whose rows the cells of others link to, and which has a column "run"
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
INTERVAL = re.compile(rf"(?:Δ )?(?:[≥>] ?)?(?:{NUMBER} )?\[{NUMBER}, {NUMBER}\]")
BROAD, WIDE = 7, 10  # columns, from which a table is printed in small letters, and across
TALL = 15  # rows, from which a table scrolls below its header
LONG = 60  # characters, from which a cell needs room


def to_html(document: Document, folder: Path) -> str:
    """Return a document as a page.

    HTML in its text is escaped, and images that are not in ``document.files`` become their text. Cells link to their
    runs if a table of the name ``runs`` has these runs in its column ``run``.

    Args:
        folder: the report's folder, with its figures in ``figures/``.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = _Page(document, folder)
    return environment.get_template("page.html.j2").render(
        document=document,
        page=page,
        css=Markup((HERE / "page.css").read_text()),
        js=Markup((HERE / "page.js").read_text()),
    )


class _Page:
    """The parts of a page, as markup."""

    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._folder = folder
        self._markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Inline).enable("strikethrough")
        self._num_figures = self._num_notes = 0
        self._anchored: set[str] = set()  # a run that is in two arms has two rows
        tables = [block for block in walk(document.sections) if isinstance(block, Table) and block.name == RUNS]
        self._runs = {run for table in tables for run in _runs_of(table)}

    @property
    def contents(self) -> list[tuple[str, str]]:
        """The anchor and the title of each section."""
        return [(slug(section.title), section.title) for section in self._document.sections]

    @property
    def has_runs(self) -> bool:
        return bool(self._runs)

    def inline(self, text: str) -> Markup:
        """Return inline Markdown as HTML."""
        return Markup(self._markdown.renderInline(text, {"image": self._image}))

    def blocks(self, blocks: Sequence[Block], level: int) -> Markup:
        return Markup("\n").join(self.block(block, level) for block in blocks)

    def block(self, block: Block, level: int) -> Markup:
        match block:
            case Section():
                return self._section(block, level)
            case Paragraph(text):
                return Markup("<p>{}</p>").format(self.inline(text))
            case Quote(text):
                return Markup("<blockquote><p>{}</p></blockquote>").format(self.inline(text))
            case Bullets(items):
                shown = (Markup("<li>{}</li>").format(self.inline(item)) for item in items)
                return Markup("<ul>\n{}\n</ul>").format(Markup("\n").join(shown))
            case Code(text):
                return Markup('<pre tabindex="0"><code>{}</code></pre>').format(text)
            case Table():
                return self._table(block)
            case Figure():
                return self.figure(block)

    def _section(self, section: Section, level: int) -> Markup:
        parts = {
            "id": slug(section.title),
            "title": Markup("<h{0}>{1}</h{0}>").format(level, self.inline(section.title)),
            "body": self.blocks(section.blocks, level + 1),
        }
        form = '<section id="{id}">\n{title}\n{body}\n</section>'
        if section.is_folded:
            form = '<details class="fold" id="{id}">\n<summary>{title}</summary>\n{body}\n</details>'
        return Markup(form).format(**parts)

    def figure(self, figure: Figure) -> Markup:
        """Return a figure with its caption and, folded, its data."""
        self._num_figures += 1  # the same figure may be shown twice
        path = self._folder / "figures" / f"{figure.name}.svg"
        form = (
            '<figure>\n<div class="picture" tabindex="0">{svg}</div>\n'
            "<figcaption>{caption}</figcaption>\n{data}\n</figure>"
        )
        return Markup(form).format(
            svg=inline_svg(path.read_text(), f"f{self._num_figures}-", figure.alt),
            caption=self.inline(figure.caption),
            data=data_fold(figure),
        )

    def _table(self, table: Table) -> Markup:
        columns = [self.inline(column) for column in table.columns]
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(column) for column in columns)
        rows = Markup("\n").join(self._row(table, row) for row in table.rows)
        classes = " ".join(
            name
            for name, is_there in {
                "sortable": len(table.rows) > 2 and any(columns),
                "filterable": table.is_filterable,
                "tall": len(table.rows) >= TALL,
                "broad": len(columns) >= BROAD,
                "wide": len(columns) >= WIDE,
                "prose": _is_prose(table),
            }.items()
            if is_there
        )
        caption = self.inline(table.caption)
        return Markup(
            '<div class="table {classes}"{id}>\n{caption}'
            '<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n'
            "<table>\n{head}<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</div>"
        ).format(
            classes=classes,
            id=Markup(' id="table-{}"').format(table.name) if table.name else "",
            caption=Markup('<p class="caption">{}</p>\n').format(caption) if caption else "",
            label=caption.striptags() or table.name or "table",
            head=Markup("<thead><tr>{}</tr></thead>\n").format(head) if any(columns) else "",
            rows=rows,
        )

    def _row(self, table: Table, row: Sequence[str | Cell]) -> Markup:
        anchor = Markup("")
        if table.name == RUNS:
            run = _run_of(table, row)
            form = ' data-run="{0}"' if run in self._anchored else ' id="run-{0}" data-run="{0}"'
            anchor = Markup(form).format(run)
            self._anchored.add(run)
        first, *others = (self._cell(cell, has_links=table.name != RUNS) for cell in row)
        cells = [Markup('<th scope="row"{}>{}</th>').format(*first)]
        for column, (attributes, content) in zip(table.columns[1:], others, strict=True):
            if column and _is_prose(table):
                attributes += Markup(' data-label="{}"').format(self.inline(column).striptags())
            cells.append(Markup("<td{}>{}</td>").format(attributes, content))
        return Markup("<tr{}>{}</tr>").format(anchor, Markup("").join(cells))

    def _cell(self, cell: str | Cell, *, has_links: bool) -> tuple[Markup, Markup]:
        """Return the attributes and the content of a cell."""
        if isinstance(cell, str):
            cell = Cell((cell,))
        first, *others = (self.inline(line) for line in cell.lines or ("",))
        attributes = Markup(' class="long"') if _is_long(cell) else Markup("")
        if cell.value is not None and math.isfinite(cell.value):
            attributes += Markup(' data-value="{:.{}g}"').format(cell.value, DIGITS)
        runs = [run for run in cell.runs if run in self._runs] if has_links else []
        if runs:
            first = _link(first, runs)
        content = Markup("<br>").join([first, *others])
        return attributes, self._noted(content, cell.note, has_focus=bool(runs)) if cell.note else content

    def _noted(self, content: Markup, note: str, *, has_focus: bool) -> Markup:
        """Return content with a note; without a link it takes the focus itself, so that a keyboard reaches the note."""
        self._num_notes += 1
        return Markup(
            '<span class="note"{focus} aria-describedby="note-{n}">{content}'
            '<span class="tip" role="tooltip" id="note-{n}">{note}</span></span>'
        ).format(focus=Markup("" if has_focus else ' tabindex="0"'), n=self._num_notes, content=content, note=note)

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
        tokens[idx].attrSet("href", re.sub(r"/report\.md$", "/report.html", target))
        return self.renderToken(tokens, idx, options, env)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return str(env["image"](str(tokens[idx].attrs["src"]), tokens[idx].content))


def _run_of(table: Table, row: Sequence[str | Cell]) -> str:
    """Return the name of a row's run."""
    return "".join(lines_of(row[table.columns.index("run")])).strip("`")


def _is_long(cell: str | Cell) -> bool:
    return any(len(line) >= LONG for line in lines_of(cell))


def _is_prose(table: Table) -> bool:
    """True for a table of sentences, which a phone shows one cell below the other."""
    num_long = sum(any(map(_is_long, row)) for row in table.rows)
    return 2 * num_long > len(table.rows) and len(table.columns) < WIDE


def _runs_of(table: Table) -> list[str]:
    return [_run_of(table, row) for row in table.rows]


def _link(text: Markup, runs: Sequence[str]) -> Markup:
    """Link a line to its runs: the line itself, or a word after it if it has links of its own."""
    form = Markup('<a class="runs" href="#run-{}" data-runs="{}">{}</a>')
    if text and "<a " not in text:
        return form.format(runs[0], " ".join(runs), text)
    words = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    return Markup("{} {}").format(text, form.format(runs[0], " ".join(runs), words))


MAX_ROWS = 300  # of a figure's data that the page has too

# Colours of figures that the page sets, so that they can be read in the dark.
PAGE_COLOURS = {INK: "currentColor", SOFT: "var(--soft)", GRID: "var(--line)", PAPER: "var(--paper)"}


def data_fold(figure: Figure) -> Markup:
    """Return a figure's data, folded."""
    files = Markup(", ").join(
        Markup('<a href="figures/{0}.{1}">{2}</a>').format(figure.name, end, end.upper())
        for end in ("csv", "svg", "pdf")
    )
    shown = figure.data.head(MAX_ROWS)
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in shown.columns)
    rows = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(_shown(value)) for value in row))
        for row in shown.itertuples(index=False)
    )
    rest = f" The first {MAX_ROWS} of {len(figure.data)} rows." if len(figure.data) > MAX_ROWS else ""
    return Markup(
        '<details class="data"><summary>Data of the figure</summary>\n<p>Files: {files}.{rest}</p>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="data of the figure"><table>\n'
        "<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div></details>"
    ).format(files=files, rest=rest, head=head, rows=rows)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.5g}"
    return str(value)


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
