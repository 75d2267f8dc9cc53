"""A document as JSON: everything that it says, for programs.

Numbers have the digits on which processors agree. They add in different orders, and so differ in the last of the 17
digits of a float. A committed report must be the same everywhere.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from analysis.document.model import Block, Bullets, Cell, Code, Document, Figure, Paragraph, Section, Table

VERSION = 1


def to_json(document: Document) -> str:
    """Return a document as JSON; numbers are as ``analysis.document.data`` has them.

    ``numbers`` are the findings as values. ``sections`` are the text, with the cells of tables as text, value and runs.
    """
    values = {
        "version": VERSION,
        "title": document.title,
        "question": document.question,
        "conclusion": document.conclusion,
        "numbers": document.numbers,
        "lead": _figure(document.lead) if document.lead else None,
        "introduction": _blocks(document.introduction),
        "sections": _blocks(document.sections),
    }
    return json.dumps(plain(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _blocks(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    return [_block(block) for block in blocks]


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Section(title, inner):
            return {"section": title, "blocks": _blocks(inner)}
        case Paragraph(text) | Code(text):
            return {"text": text}
        case Bullets(items):
            return {"list": items}
        case Table(columns, rows):
            cells = [[_cell(cell) for cell in row] for row in rows]
            return {"table": block.name, "columns": columns, "rows": cells, "caption": block.caption}
        case Figure():
            return _figure(block)


def _figure(figure: Figure) -> dict[str, Any]:
    return {"figure": figure.name, "alt": figure.alt, "caption": figure.caption, "data": f"figures/{figure.name}.csv"}


def _cell(cell: str | Cell) -> dict[str, Any] | str:
    if isinstance(cell, str):
        return cell
    found = {"text": "\n".join(cell.lines), "value": cell.value, "runs": list(cell.runs), "note": cell.note}
    return {key: value for key, value in found.items() if value not in (None, "", [])}


DIGITS = 8


def plain(value: Any) -> Any:
    """Return JSON values with DIGITS significant digits; a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
