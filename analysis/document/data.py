"""A document as JSON: its findings, for programs.

Numbers have the digits on which processors agree. They add in different orders, and so differ in the last of the 17
digits of a float. A committed report must be the same everywhere.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from aimv2.analysis.document.model import Document

VERSION = 4
DIGITS = 8


def to_json(document: Document, files: Sequence[str] = ()) -> str:
    """Return the title and the answer of a document, its findings (``numbers``), and the other files of its folder.

    Args:
        files: paths in the folder. A later report replaces these, and leaves others.
    """
    values = {
        "version": VERSION,
        "title": document.title,
        "answer": document.answer,
        "numbers": document.numbers,
        "files": list(files),
    }
    return json.dumps(plain(values), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return JSON values with DIGITS significant digits; a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
