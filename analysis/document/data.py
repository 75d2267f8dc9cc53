"""A document as JSON: its findings and tables, for programs.

Numbers have the digits on which processors agree. They add in different orders, and so differ in the last of the 17
digits of a float. A committed report must be the same everywhere.
"""

import json
import math
from typing import Any

from analysis.document.model import Cell, Document, Table

VERSION = 3
DIGITS = 8


def to_json(document: Document) -> str:
    """Return the title and the answer of a document, its findings (``numbers``) and its ``tables`` by name.

    A cell is its text, or an object of its text, the value behind it and a note.
    """
    tables = [block for block in document.blocks() if isinstance(block, Table) and block.name]
    values = {
        "version": VERSION,
        "title": document.title,
        "answer": document.answer,
        "numbers": document.numbers,
        "tables": {
            one.name: {"columns": one.columns, "rows": [[_cell(cell) for cell in row] for row in one.rows]}
            for one in tables
        },
    }
    return json.dumps(plain(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(cell: str | Cell) -> str | dict[str, Any]:
    if isinstance(cell, str):
        return cell
    found = {"text": "\n".join(cell.lines), "value": cell.value, "note": cell.note}
    return {key: value for key, value in found.items() if value not in (None, "")}


def plain(value: Any) -> Any:
    """Return JSON values with DIGITS significant digits; a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
