"""How the files of a report differ from the same report written again: which text, and which number by how much.

Processors differ in the last digits of a float. Files print fewer, but a number between two printed ones may still
come out as either. So long numbers agree if they are neighbours, whatever the kind of file.
"""

import math
import re
from collections.abc import Collection
from itertools import zip_longest
from pathlib import Path

SAME = 1e-9  # relative difference of numbers that agree, with all their digits
LONG = 5  # significant digits of a number that may be rounded otherwise; a shorter one, and a count, must be the same
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d{1,2}(?!\w))?")  # no part of a digest is an exponent
SVG_ID = re.compile(r"\b[mp][0-9a-f]{10}\b")  # follows from the digits of a figure
SHOWN = 60  # characters of a text


def differences(folder: Path, again: Path, names: Collection[str]) -> dict[Path, list[str]]:
    """Return how these files of a folder differ from those of another, a sentence each, by the path in the first one.

    HTML is not compared: it is the Markdown in another form, and not committed.
    """
    compared = [name for name in sorted(names) if not name.endswith(".html")]
    sentences = {folder / name: _of_files(folder / name, again / name) for name in compared}
    return {path: found for path, found in sentences.items() if found}


def _of_files(path: Path, again: Path) -> list[str]:
    if not path.is_file() or not again.is_file():
        return ["The file is missing." if again.is_file() else "The report has no such file."]
    if path.read_bytes() == again.read_bytes():
        return []
    try:
        texts = [SVG_ID.sub("", file.read_bytes().decode()).split("\n") for file in (path, again)]
    except UnicodeDecodeError:
        return ["It has other content, which is no text."]
    lines = enumerate(zip_longest(*texts, fillvalue=""), start=1)
    return [f"Line {number}: {sentence}" for number, (old, new) in lines for sentence in _of_lines(old, new)]


def _of_lines(old: str, new: str) -> list[str]:
    if (text := NUMBER.split(old)) != NUMBER.split(new):
        pairs = enumerate(zip_longest(old, new))
        start = max(next(place for place, (before, after) in pairs if before != after) - SHOWN // 4, 0)
        return [f"{old[start : start + SHOWN]!r} is now {new[start : start + SHOWN]!r}"]
    numbers = zip(text, NUMBER.findall(old), NUMBER.findall(new), strict=False)
    return [f"{words[-SHOWN:]}{a} is now {b} ({_change(a, b)})" for words, a, b in numbers if not _agree(a, b)]


def _agree(old: str, new: str) -> bool:
    """True if two numbers are the same but for rounding."""
    parts = [number.partition("e") for number in (old, new)]
    num_digits = max(len(re.sub(r"\D", "", mantissa).lstrip("0")) for mantissa, _, _ in parts)
    is_long = any(set(".e") & set(number) for number in (old, new)) and num_digits >= LONG
    units = [10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])) for mantissa, _, exponent in parts]
    return old == new or (is_long and math.isclose(float(old), float(new), rel_tol=SAME, abs_tol=1.01 * min(units)))


def _change(old: str, new: str) -> str:
    a, b = float(old), float(new)
    return f"{100 * (b - a) / abs(a):+.2g} %" if a else f"{b - a:+.2g}"
