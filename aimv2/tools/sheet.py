"""A sheet of pictures in columns, each row with a caption beside them, as PNG. It loads no torch."""

import io
import textwrap
from collections.abc import Sequence
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
    """A row of a sheet: pictures uint8 [S, S, 3], and the words of a caption under its label."""

    pictures: Sequence[np.ndarray]
    label: str
    words: Sequence[Word]


def sheet(rows: Sequence[Shown], title: str, columns: Sequence[str]) -> bytes:
    """Draw the rows under a title and the names of the columns of pictures, and return a PNG."""
    side = _enlarged(rows[0].pictures[0]).width
    title = _printable(title)
    width = max(len(columns) * (side + GAP) + LINE_CHARACTERS * _advance(), _font().getlength(title), 600)
    height = max(side, LINE_PX * (MAX_LINES + 2))
    top = PADDING + 3 * LINE_PX
    size = (round(width) + 2 * PADDING, top + len(rows) * (height + GAP) + PADDING)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((PADDING, PADDING), title, INK, _font())
    for number, name in enumerate(columns):
        lines = textwrap.wrap(name, int(side / _advance()), max_lines=2)
        draw.text((PADDING + number * (side + GAP), top - 2 * LINE_PX), "\n".join(lines), SOFT, _font(), spacing=1)
    for row in rows:
        for number, picture in enumerate(row.pictures):
            image.paste(_enlarged(picture), (PADDING + number * (side + GAP), top))
        _write(draw, row, PADDING + len(row.pictures) * (side + GAP), top)
        top += height + GAP
    image.save(png := io.BytesIO(), "png")
    return png.getvalue()


def _write(draw: ImageDraw.ImageDraw, row: Shown, left: int, top: int) -> None:
    """Write a caption below its label, at most MAX_LINES; words that are not right have a colour of their own."""
    for line in textwrap.wrap(_printable(row.label), LINE_CHARACTERS, max_lines=2, placeholder="…"):
        draw.text((left, top), line, SOFT, _font())
        top += LINE_PX
    texts = [Word(_printable(word.text), word.is_right) for word in row.words]
    lines = textwrap.wrap(" ".join(word.text for word in texts), LINE_CHARACTERS, max_lines=MAX_LINES, placeholder="…")
    is_right = iter([word.is_right for word in texts for character in word.text if character != " "])
    for line in lines:
        is_right_C = [character == " " or next(is_right, True) for character in line]
        for colour, has_colour in ((INK, True), (WRONG, False)):  # each word in one of them; all letters have one width
            visible = zip(line, is_right_C, strict=True)
            draw.text((left, top), "".join(c if right is has_colour else " " for c, right in visible), colour, _font())
        top += LINE_PX


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
