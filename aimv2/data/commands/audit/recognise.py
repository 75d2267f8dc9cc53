"""Formats of files by their first bytes, and scripts of texts by their letters."""

import unicodedata
from functools import lru_cache

from aimv2.data.decode import FORMATS

IMAGE_FORMATS = (*FORMATS, "GIF", "AVIF", "BMP", "TIFF", "HTML", "other", "drawn")
SCRIPTS = (
    "none",
    "Latin",
    "Han",
    "Cyrillic",
    "Arabic",
    "Devanagari",
    "Hangul",
    "Kana",
    "Greek",
    "Hebrew",
    "Thai",
    "other",
)
_NAMES = {name.upper(): name for name in SCRIPTS} | {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


def image_format(content: bytes) -> str:
    """Return the format of a file by its first bytes, one of IMAGE_FORMATS."""
    start = content[:64]
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    if start.lstrip().lower().startswith((b"<html", b"<!doctype html")):
        return "HTML"
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), "other")


def script(text: str) -> str:
    """Return the script of most letters of a text, one of SCRIPTS."""
    count: dict[str, int] = {}
    for character in text:
        if character.isalpha():
            found = _script_of(character)
            count[found] = count.get(found, 0) + 1
    return max(count, key=lambda name: count[name], default="none")


@lru_cache(maxsize=2**16)
def _script_of(character: str) -> str:
    words = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "").split()
    return _NAMES.get(words[0], "other") if words else "other"
