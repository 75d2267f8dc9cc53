"""Colours, fonts and enlarged pictures, for sheets that are drawn with Pillow."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

MAX_TEXT = 200  # characters, more than fit a line
PAPER, INK, SOFT, LINE_COLOUR = "#ffffff", "#1c1e21", "#5c636b", "#d9dde2"
EDGE = "#d55e00"  # of a prefix, and of what is wrong


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
    """Return a text that fits a width at a size of the font, without its middle if it is too long."""
    text = text.encode("utf-8", "replace").decode().replace("\n", " ")
    text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT // 2] + text[-MAX_TEXT // 2 :]
    if font(px).getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2 and font(px).getlength(text[: kept // 2] + "…" + text[-(kept // 2) :]) > width:
        kept -= 1
    return text[: kept // 2] + "…" + text[-(kept // 2) :]
