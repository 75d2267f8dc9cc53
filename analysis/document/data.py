"""A document as JSON: what it found, for programs.

Numbers have the digits on which processors agree. They add in different orders, and so differ in the last of the 17
digits of a float. A committed report must be the same everywhere.
"""

import json
import math
from typing import Any

from analysis.document.model import Document

VERSION = 2
DIGITS = 8


def to_json(document: Document) -> str:
    """Return the findings of a document as JSON values (``numbers``), beside its title, question and conclusion."""
    values = {
        "version": VERSION,
        "title": document.title,
        "question": document.question,
        "conclusion": document.conclusion,
        "numbers": document.numbers,
    }
    return json.dumps(plain(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return JSON values with DIGITS significant digits; a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
