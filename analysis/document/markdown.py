"""A document as Markdown, as GitHub renders it."""

from collections.abc import Iterator, Sequence

from aimv2.analysis.document.model import (
    VERDICTS,
    Block,
    Bullets,
    Code,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
    lines_of,
)

DETAILS = "details.md"


def to_markdown(document: Document) -> str:
    """Return the summary as Markdown; its figures are in the folder ``figures`` beside it."""
    chips = " · ".join(f"{VERDICTS[chip.verdict].mark} {chip.name}: **{chip.verdict}**" for chip in document.chips)
    parts = [document.subtitle, f"# {document.title}", f"> {document.answer}" if document.answer else "", chips]
    if document.lead:
        parts.append(_figure(document.lead))
    more = f"The rest is in [the details]({DETAILS})." if document.details else ""
    blocks = _blocks(document.sections, level=2)
    return "\n\n".join(filter(None, [*parts, *blocks, more])) + "\n"


def to_details(document: Document) -> str:
    """Return the details as Markdown."""
    parts = [f"# Details: {document.title}", "The answer is in [the report](report.md)."]
    return "\n\n".join([*parts, *_blocks(document.details, level=2)]) + "\n"


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
            case Code(text, language):
                yield f"```{language}\n{text}\n```"
            case Table():
                yield _table(block)
                if block.caption:
                    yield block.caption
            case Figure():
                yield _figure(block)


def _table(table: Table) -> str:
    rows = [
        table.columns,
        ["---"] * len(table.columns),
        *(["<br>".join(lines_of(cell)) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figure(figure: Figure) -> str:
    return f"![{figure.alt}](figures/{figure.name}.svg)\n{figure.caption}"
