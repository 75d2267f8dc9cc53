"""A sheet of pictures in columns, each row with captions beside them, as PNG."""

import io
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PICTURE_PX = 128  # side of a picture on the sheet, about
PADDING, GAP, LINE = 18, 10, 19
TEXT_WIDTH = 330
TEXT_PX, LABEL_PX = 14, 11
MAX_LINES = 5  # of a caption
MAX_TEXT = 200  # characters, more than fit a line
PAPER, INK, SOFT, LINE_COLOUR = "#ffffff", "#1c1e21", "#5c636b", "#d9dde2"
EDGE = "#d55e00"  # of wrong words


class Word(NamedTuple):
    text: str
    is_right: bool


class Shown(NamedTuple):
    """A row of the sheet: pictures uint8 [S, S, 3], and the words of captions by their label."""

    pictures: Sequence[np.ndarray]
    captions: Mapping[str, Sequence[Word]]


def sheet(rows: Sequence[Shown], title: str, columns: Sequence[str]) -> bytes:
    """Draw the rows under a title and the names of the columns of pictures, and return a PNG."""
    drawn = [[enlarged(picture, PICTURE_PX) for picture in row.pictures] for row in rows]
    texts = [_lines(row) for row in rows]
    side = drawn[0][0].width
    heights = [max(side, LINE * len(lines)) for lines in texts]
    left = PADDING + len(columns) * (side + GAP)
    width = left - GAP + (GAP + TEXT_WIDTH if any(texts) else 0) + PADDING
    width = max(width, round(font(TEXT_PX, "-Bold").getlength(title)) + 2 * PADDING)
    top = PADDING + 2 * LINE + 8
    image = Image.new("RGB", (width, top + sum(heights) + GAP * (len(rows) - 1) + PADDING), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((PADDING, PADDING - 4), title, INK, font(TEXT_PX, "-Bold"))
    for number, name in enumerate(columns):
        place = PADDING + number * (side + GAP), top - LINE
        draw.text(place, fitted(name, side, LABEL_PX), SOFT, font(LABEL_PX))
    for pictures, lines, height in zip(drawn, texts, heights, strict=True):
        for number, picture in enumerate(pictures):
            corner = PADDING + number * (side + GAP), top
            image.paste(picture, corner)
            draw.rectangle((*corner, corner[0] + side - 1, corner[1] + side - 1), outline=LINE_COLOUR)
        for number, (label, words) in enumerate(lines):
            _write(draw, label, words, left + 4, top + number * LINE)
        top += height + GAP
    image.save(png := io.BytesIO(), "png")
    return png.getvalue()


def comparison(reference: str, written: str) -> dict[str, list[Word]]:
    """Return a true caption and a written one by their labels; written words that difflib does not match are wrong."""
    expected, words = reference.split(), written.split()
    blocks = SequenceMatcher(None, expected, words, autojunk=False).get_matching_blocks()
    right = {place for block in blocks for place in range(block.b, block.b + block.size)}
    compared = [Word(word, place in right) for place, word in enumerate(words)]
    return {
        "true caption": [Word(word, True) for word in expected],
        "written, wrong words underlined": compared or [Word("(nothing)", False)],
    }


def _lines(row: Shown) -> list[tuple[str, list[Word]]]:
    """Return the lines beside the pictures: labels, each with the lines of its words below it, at most MAX_LINES."""
    found: list[tuple[str, list[Word]]] = []
    for label, words in row.captions.items():
        lines: list[list[Word]] = [[]]
        for word in words:
            shown = Word(fitted(word.text, TEXT_WIDTH, TEXT_PX), word.is_right)
            line = " ".join(part.text for part in (*lines[-1], shown))
            if lines[-1] and font(TEXT_PX).getlength(line) > TEXT_WIDTH:
                if len(lines) == MAX_LINES:
                    lines[-1][-1] = Word("…", True)
                    break
                lines.append([])
            lines[-1].append(shown)
        found += [(fitted(label, TEXT_WIDTH, LABEL_PX), []), *(("", line) for line in lines)]
    return found


def _write(draw: ImageDraw.ImageDraw, label: str, words: Sequence[Word], left: float, top: float) -> None:
    draw.text((left, top + 3), label, SOFT, font(LABEL_PX))
    for word in words:
        width = font(TEXT_PX).getlength(word.text)
        draw.text((left, top), word.text, INK if word.is_right else EDGE, font(TEXT_PX))
        if not word.is_right:
            draw.line((left, top + TEXT_PX + 3, left + width, top + TEXT_PX + 3), EDGE)
        left += width + font(TEXT_PX).getlength(" ")


@lru_cache
def font(px: int, style: str = "") -> ImageFont.FreeTypeFont:
    """Return matplotlib's own font, which has Latin, Greek, Cyrillic and Arabic letters."""
    matplotlib = find_spec("matplotlib")  # its folder is enough: to import it takes longer than to draw a sheet
    assert matplotlib is not None, "pyproject.toml requires it"
    assert matplotlib.origin is not None, "it is a package"
    return ImageFont.truetype(str(Path(matplotlib.origin).parent / f"mpl-data/fonts/ttf/DejaVuSans{style}.ttf"), px)


def enlarged(picture: np.ndarray, side: int) -> Image.Image:
    """Return a square picture, uint8 [S, S, 3], at about ``side`` pixels, by whole ones, so that its own are seen."""
    times = max(1, round(side / len(picture)))
    return Image.fromarray(picture.repeat(times, axis=0).repeat(times, axis=1))


def fitted(text: str, width: float, px: int) -> str:
    """Return a text that fits a width at a size of the font, without its end if it is too long."""
    text = text.encode("utf-8", "replace").decode().replace("\n", " ")
    if len(text) <= MAX_TEXT and font(px).getlength(text) <= width:
        return text
    text = text[:MAX_TEXT]
    while text and font(px).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
