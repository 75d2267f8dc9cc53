"""How the files of a report differ from the same report written again: which text, and which number by how much.

Processors differ in the last digits of a float. Files print fewer, but a number between two printed ones may still
come out as either. So long numbers agree if they are neighbours, whatever the kind of file.
"""

import math
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

SAME = 1e-9  # relative difference of numbers that agree, with all their digits
LONG = 5  # significant digits of a number that may be rounded otherwise; a shorter one, and a count, must be the same
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
SVG_NAME = re.compile(r"\bf[0-9a-f]{6}-")  # starts the names in a figure, and follows from its digits
SHOWN = 60  # characters of a text


def differences(one: Path, other: Path, patterns: Sequence[str] = ("**/*",)) -> dict[Path, list[str]]:
    """Return how the files of a folder differ from those of another, a sentence each.

    Args:
        patterns: of the files that are compared.

    Returns:
        By the path in the first folder, in its order, without files that agree.
    """
    found_in = ((folder, path) for folder in (one, other) for pattern in patterns for path in folder.glob(pattern))
    names = {path.relative_to(folder) for folder, path in found_in if path.is_file()}
    found = {one / name: _of_files(one / name, other / name) for name in sorted(names)}
    return {path: sentences for path, sentences in found.items() if sentences}


def _of_files(one: Path, other: Path) -> list[str]:
    if not one.is_file() or not other.is_file():
        return ["The file is missing." if other.is_file() else "The report has no such file."]
    before, now = one.read_bytes(), other.read_bytes()
    if before == now:
        return []
    texts = _text(before), _text(now)
    if None in texts:
        return ["It has other content, which is no text."]
    lines = zip_longest(*(text.split("\n") for text in texts if text is not None), fillvalue="")
    return [
        f"Line {number}: {sentence}"
        for number, (old, new) in enumerate(lines, start=1)
        if old != new
        for sentence in _of_lines(old, new)
    ]


def _text(content: bytes) -> str | None:
    """Return what a file says; None if it is no text."""
    try:
        return SVG_NAME.sub("", content.decode())
    except UnicodeDecodeError:
        return None


def _of_lines(old: str, new: str) -> list[str]:
    if (text := NUMBER.split(old)) != NUMBER.split(new):
        pairs = enumerate(zip(old, new, strict=False))
        same = next((place for place, (one, other) in pairs if one != other), min(len(old), len(new)))
        start = max(same - SHOWN // 4, 0)
        return [f"{old[start : start + SHOWN]!r} is now {new[start : start + SHOWN]!r}"]
    numbers = zip(text, NUMBER.findall(old), NUMBER.findall(new), strict=False)
    return [f"{before[-SHOWN:]}{a} is now {b} ({_change(a, b)})" for before, a, b in numbers if not _agree(a, b)]


def _agree(one: str, other: str) -> bool:
    """True if two numbers are the same but for rounding."""
    if one == other:
        return True
    values = float(one), float(other)
    is_long = any(set(".e") & set(number) for number in (one, other)) and max(map(_digits, (one, other))) >= LONG
    unit = 1.01 * min(map(_unit, (one, other)))
    return is_long and math.isclose(*values, rel_tol=SAME, abs_tol=unit)


def _digits(number: str) -> int:
    return len(re.sub(r"e.*|\D", "", number).lstrip("0"))


def _unit(number: str) -> float:
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def _change(one: str, other: str) -> str:
    old, new = float(one), float(other)
    return f"{100 * (new - old) / abs(old):+.2g} %" if old else f"{new - old:+.2g}"
