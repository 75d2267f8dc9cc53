"""A document as Markdown, as GitHub renders it; the same Markdown as an HTML page; and its numbers as JSON."""

import base64
import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup

from aimv2.analysis.document.model import (
    GRID,
    INK,
    PAPER,
    SOFT,
    VERDICTS,
    Block,
    Bullets,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
)

JSON_VERSION = 5
DIGITS = 8  # processors add in different orders, so the last of a float's 17 digits differ
DETAILS, NO_BREAK = "Details", "\u00a0"
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
INTERVAL = re.compile(rf"(?:Δ )?(?:(?:≥|&gt;) ?)?(?:{NUMBER} )?\[{NUMBER}, {NUMBER}\]|\d %")
PAGE_COLOURS = {INK: "currentColor", SOFT: "var(--soft)", GRID: "var(--line)", PAPER: "var(--paper)"}


def to_markdown(document: Document) -> str:
    """Return the report as Markdown; its figures are in the folder ``figures`` beside it."""
    chips = [f"{VERDICTS[chip.verdict].mark}{NO_BREAK}{chip.name}: **{chip.verdict}**" for chip in document.chips]
    parts = [
        document.subtitle,
        f"# {document.title}",
        f"> {document.answer}" if document.answer else "",
        f"{NO_BREAK}· ".join(chips),
    ]
    lead = [document.lead] if document.lead else []
    details = [Section(DETAILS, []), *document.details] if document.details else []
    return "\n\n".join(filter(None, [*parts, *_blocks([*lead, *document.sections, *details], level=2)])) + "\n"


def _blocks(blocks: Sequence[Block], level: int) -> Iterator[str]:
    for block in blocks:
        match block:
            case Section(title, inner):
                yield f"{'#' * level} {title}"
                yield from _blocks(inner, level + 1)
            case Paragraph(text):
                yield text
            case Bullets(items):
                yield "\n".join(f"- {item}" for item in items)
            case Table(columns, rows, _, caption):
                lines = [columns, ["---"] * len(columns), *rows]
                yield "\n".join(f"| {' | '.join(line)} |" for line in lines)
                if caption:
                    yield caption
            case Figure(name, alt, caption):
                yield f"![{alt}](figures/{name}.svg)\n{caption}"


def to_plain(markdown: str) -> str:
    """Return the text of inline Markdown without markup."""
    tokens = MARKDOWN.parseInline(markdown.replace("<br>", " "))[0].children or []
    return "".join(token.content or " " * token.type.endswith("break") for token in tokens)


def to_html(markdown: str, folder: Path) -> str:
    """Return the Markdown of a report as a page that needs no other file and no network. HTML in it is escaped, and
    each section of the details is folded. Images that are not in ``folder`` become their text."""
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    tokens, environment = parser.parse(markdown), {"folder": folder}
    starts = [place for place, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    parts = [tokens[start:end] for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True)]
    titles = [to_plain(part[1].content) for part in parts]
    num_shown = titles.index(DETAILS) if DETAILS in titles else len(titles)

    def rendered(tokens: Sequence[Token]) -> Markup:
        return Markup(parser.renderer.render(tokens, parser.options, environment))

    sections = [(slug(title), title, rendered(part[3:])) for title, part in zip(titles, parts, strict=True)]
    head = tokens[: starts[0]] if starts else tokens
    title = next((to_plain(head[place + 1].content) for place, token in enumerate(head) if token.tag == "h1"), "")
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    css = Markup((Path(__file__).parent / "page.css").read_text())
    return page.get_template("page.html.j2").render(
        title=title, head=rendered(head), shown=sections[:num_shown], details=sections[num_shown + 1 :], css=css
    )


def slug(title: str) -> str:
    """Return the anchor of a heading, as GitHub has it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


class _Renderer(RendererHTML):
    """HTML with figures in the page, tables that scroll, and intervals and percentages on one line."""

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        tokens[idx].attrSet("id", slug(to_plain(tokens[idx + 1].content)))
        return self.renderToken(tokens, idx, options, env)

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return '<div class="scroll" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table></div>\n"

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        text = html.escape(tokens[idx].content).replace("&lt;br&gt;", "<br>")  # the one tag of cells
        for look in VERDICTS.values():  # systems differ in the marks that they can show
            text = text.replace(look.mark, f'<span style="color: {look.color}">■</span>')
        return INTERVAL.sub(r'<span class="number">\g<0></span>', text)

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        target = str(tokens[idx].attrs["href"])
        tokens[idx].attrSet("href", re.sub(r"^([^:#]*)\.md(?=#|$)", r"\1.html", target))
        return self.renderToken(tokens, idx, options, env)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        name, alt = PurePosixPath(str(tokens[idx].attrs["src"])), html.escape(tokens[idx].content)
        path = env["folder"] / name
        if ".." in name.parts or name.is_absolute() or not path.is_file():
            return alt
        if name.suffix == ".svg":
            return inline_svg(path.read_text(), alt)
        return f'<img src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" alt="{alt}">'


def inline_svg(svg: str, alt: str) -> str:
    """Return a figure's markup with its text for screen readers, as wide as the page allows, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    width = re.search(r'width="([\d.]+)pt"', svg)
    svg = re.sub(r' (width|height)="[^"]*"', "", svg, count=2)  # the first two are those of the whole
    for of_figure, of_page in PAGE_COLOURS.items():
        svg = svg.replace(of_figure, of_page)
    size = f' style="--width: {float(width[1]):.0f}pt"' if width else ""
    return svg.replace("<svg", f'<svg role="img" aria-label="{alt}"{size}', 1)


def to_json(document: Document, files: Sequence[str] = ()) -> str:
    """Return the title, the answer and the numbers of a document for programs, and its files."""
    values = {
        "version": JSON_VERSION,
        "title": document.title,
        "answer": document.answer,
        "numbers": document.numbers,
        "files": files,
    }
    return json.dumps(plain(values), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return JSON values with DIGITS significant digits; a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
