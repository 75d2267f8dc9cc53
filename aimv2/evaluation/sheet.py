"""A sheet of pictures in columns, each row with captions beside them, as PNG. It loads no torch."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PICTURE_PX, PADDING, GAP = 128, 18, 10
TEXT_PX, LINE_PX = 13, 17
LINE_CHARACTERS, MAX_LINES = 42, 5  # of a caption
PAPER, INK, SOFT, WRONG = "#ffffff", "#1c1e21", "#5c636b", "#d55e00"


class Word(NamedTuple):
    text: str
    is_right: bool


class Shown(NamedTuple):
    """A row of a sheet: pictures uint8 [S, S, 3], and the words of captions by their label."""

    pictures: Sequence[np.ndarray]
    captions: Mapping[str, Sequence[Word]]


def comparison(reference: str, written: str) -> dict[str, list[Word]]:
    """Return a true caption and a written one by their labels; written words that difflib does not match are wrong."""
    expected, words = reference.split(), written.split()
    blocks = SequenceMatcher(None, expected, words, autojunk=False).get_matching_blocks()
    right = {place for block in blocks for place in range(block.b, block.b + block.size)}
    compared = [Word(word, place in right) for place, word in enumerate(words)]
    return {
        "true caption": [Word(word, True) for word in expected],
        "written, wrong words in orange": compared or [Word("(nothing)", False)],
    }


def sheet(rows: Sequence[Shown], title: str, columns: Sequence[str]) -> bytes:
    """Draw the rows under a title and the names of the columns of pictures, and return a PNG."""
    side = _enlarged(rows[0].pictures[0]).width
    title = _printable(title)
    captions = any(row.captions for row in rows) * LINE_CHARACTERS * _advance()
    width = max(len(columns) * (side + GAP) + captions, _font().getlength(title), 600)
    heights = [max(side, LINE_PX * (MAX_LINES + 2) * len(row.captions)) for row in rows]
    top = PADDING + 3 * LINE_PX
    size = (round(width) + 2 * PADDING, top + sum(heights) + GAP * len(rows) + PADDING)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((PADDING, PADDING), title, INK, _font())
    for number, name in enumerate(columns):
        lines = textwrap.wrap(name, int(side / _advance()), max_lines=2)
        draw.text((PADDING + number * (side + GAP), top - 2 * LINE_PX), "\n".join(lines), SOFT, _font(), spacing=1)
    for row, height in zip(rows, heights, strict=True):
        for number, picture in enumerate(row.pictures):
            image.paste(_enlarged(picture), (PADDING + number * (side + GAP), top))
        place = PADDING + len(row.pictures) * (side + GAP), top
        for label, words in row.captions.items():
            place = _write(draw, label, words, place)
        top += height + GAP
    image.save(png := io.BytesIO(), "png")
    return png.getvalue()


def _write(draw: ImageDraw.ImageDraw, label: str, words: Sequence[Word], place: tuple[int, int]) -> tuple[int, int]:
    """Write a caption below its label, at most MAX_LINES, and return the place of what follows."""
    left, top = place
    for line in textwrap.wrap(_printable(label), LINE_CHARACTERS, max_lines=2, placeholder="…"):
        draw.text((left, top), line, SOFT, _font())
        top += LINE_PX
    texts = [Word(_printable(word.text), word.is_right) for word in words]
    lines = textwrap.wrap(" ".join(word.text for word in texts), LINE_CHARACTERS, max_lines=MAX_LINES, placeholder="…")
    is_right = iter([word.is_right for word in texts for character in word.text if character != " "])
    for line in lines:
        is_right_C = [character == " " or next(is_right, True) for character in line]
        for colour, has_colour in ((INK, True), (WRONG, False)):  # each word in one of them; all letters have one width
            visible = zip(line, is_right_C, strict=True)
            draw.text((left, top), "".join(c if right is has_colour else " " for c, right in visible), colour, _font())
        top += LINE_PX
    return left, top


def _printable(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _advance() -> float:
    return _font().getlength("x")


@lru_cache
def _font() -> ImageFont.FreeTypeFont:
    """Return matplotlib's monospaced font, which has Latin, Greek and Cyrillic letters."""
    matplotlib = find_spec("matplotlib")  # its folder is enough: to import it takes longer than to draw a sheet
    assert matplotlib is not None, "pyproject.toml requires it"
    assert matplotlib.origin is not None, "it is a package"
    return ImageFont.truetype(str(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSansMono.ttf"), TEXT_PX)


def _enlarged(picture: np.ndarray) -> Image.Image:
    """Return a square picture, uint8 [S, S, 3], at about PICTURE_PX, by whole pixels."""
    times = max(1, round(PICTURE_PX / len(picture)))
    return Image.fromarray(picture.repeat(times, axis=0).repeat(times, axis=1))
