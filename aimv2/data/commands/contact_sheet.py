"""Contact sheets: pictures of samples in a grid, each with patches, origin and tokens. Letters: G patches a side."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from aimv2.base.drawing import EDGE, INK, LINE_COLOUR, PAPER, SOFT, enlarged, fitted, font

PICTURE_PX = 256  # side of a picture on the sheet, about
PADDING = 20
COLUMNS = 4
LINE, CHIP = 19, 23  # heights of lines of text and of tokens
WORD_GAP, PIECE_GAP = 7, 1
MAX_TRUNCATED = 6  # truncated tokens that are drawn
MAX_LINES = 12  # lines of tokens
SEEN, CUT, UNKNOWN, END = ("#dcebf7", INK), ("#f2f2f2", "#9aa1a9"), ("#fbd5c0", "#8a2b06"), ("#1c1e21", "#ffffff")
KINDS = {"short": "#0173b2", "dense": "#8a4fa3"}


class Piece(NamedTuple):
    """The text of a token."""

    text: str
    starts_word: bool
    is_unknown: bool
    is_truncated: bool


class Cell(NamedTuple):
    """A sample on the sheet.

    Attributes:
        place: its place in the run.
        prefix_len: patches in the prefix.
        image: what the network sees, uint8 [P, P, 3].
        target: the picture whose patches the pixel loss predicts, if it is another one.
        in_prefix_GG: True for patches in the prefix.
    """

    source: str
    kind: str
    key: str
    place: int
    epoch: int
    prefix_len: int
    image: np.ndarray
    target: np.ndarray | None
    in_prefix_GG: np.ndarray
    pieces: list[Piece]


def sheet(cells: Sequence[Cell], title: Sequence[str], *, has_prefix: bool) -> Image.Image:
    """Draw a contact sheet.

    Args:
        has_prefix: True if the patches outside of the prefix are dimmed.
    """
    drawn = [_cell(cell, has_prefix) for cell in cells]
    columns = min(COLUMNS, len(drawn))
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    header = _header(title, has_prefix)
    width = max(columns * (drawn[0].width + PADDING) + PADDING, header.width)
    whole = Image.new("RGB", (width, header.height + sum(heights) + PADDING * (len(rows) + 1)), PAPER)
    whole.paste(header, (0, 0))
    top = header.height + PADDING
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            whole.paste(picture, (PADDING + column * (picture.width + PADDING), top))
        top += height + PADDING
    return whole


def _header(title: Sequence[str], has_prefix: bool) -> Image.Image:
    legend = ["a box is a token, and a gap starts a word", "grey and struck: truncated", "orange: unknown token"]
    if has_prefix:
        legend.insert(0, "bright patches: prefix; dimmed patches: predicted")
    lines = [*title[1:], "; ".join(legend)]
    widths = [font(17, "-Bold").getlength(title[0]), *(font(13).getlength(line) for line in lines)]
    image = Image.new("RGB", (math.ceil(max(widths)) + 2 * PADDING, PADDING + 26 + LINE * len(lines)), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((PADDING, PADDING), title[0], INK, font(17, "-Bold"))
    for number, line in enumerate(lines):
        draw.text((PADDING, PADDING + 26 + LINE * number), line, SOFT, font(13))
    return image


def _cell(cell: Cell, has_prefix: bool) -> Image.Image:
    pictures = [_with_patches(cell.image, cell.in_prefix_GG)]
    if cell.target is not None:
        pictures.append(enlarged(cell.target, PICTURE_PX))
    side = pictures[0].width
    width = side * len(pictures) + 8 * (len(pictures) - 1)
    placed, num_lines = _placed(cell.pieces, width)
    image = Image.new("RGB", (width, side + 8 + 3 * LINE + 6 + num_lines * CHIP), PAPER)
    draw = ImageDraw.Draw(image)
    for number, picture in enumerate(pictures):
        image.paste(picture, (number * (side + 8), 0))
        draw.rectangle((number * (side + 8), 0, number * (side + 8) + side - 1, side - 1), outline=LINE_COLOUR)
    top = side + 8
    kind_width = font(12, "-Bold").getlength(cell.kind)
    draw.text((0, top), cell.kind, KINDS[cell.kind], font(12, "-Bold"))
    draw.text((kind_width + 8, top), fitted(f"caption from {cell.source}", width - kind_width - 8, 12), INK, font(12))
    draw.text((0, top + LINE), fitted(cell.key, width, 12), SOFT, font(12))
    facts = [f"sample {cell.place:,}", f"epoch {cell.epoch}"]
    if has_prefix:
        facts.append(f"prefix {cell.prefix_len} of {cell.in_prefix_GG.size}")
    if cell.target is not None:
        facts.append("right: pixel targets")
    draw.text((0, top + 2 * LINE), fitted(", ".join(facts), width, 12), SOFT, font(12))
    _draw_chips(draw, placed, top + 3 * LINE + 6)
    return image


def _with_patches(picture: np.ndarray, in_prefix_GG: np.ndarray) -> Image.Image:
    """Return an enlarged picture whose patches outside of the prefix are dimmed, with a line around the prefix."""
    image = enlarged(picture, PICTURE_PX)
    grid, side = len(in_prefix_GG), image.width
    if in_prefix_GG.all():
        return image
    is_bright = np.asarray(Image.fromarray(in_prefix_GG).resize(image.size, Image.Resampling.NEAREST))[..., None]
    pixels = np.asarray(image)
    image = Image.fromarray(np.where(is_bright, pixels, 255 - (255 - pixels) // 3))
    draw = ImageDraw.Draw(image)
    edge = [round(place * side / grid) for place in range(grid + 1)]
    for row, column in np.ndindex(grid, grid):
        for other_row, other_column in ((row + 1, column), (row, column + 1)):
            inside = max(other_row, other_column) < grid
            if inside and in_prefix_GG[row, column] != in_prefix_GG[other_row, other_column]:
                start = edge[other_column], edge[other_row]
                end = (edge[column + 1], start[1]) if other_row > row else (start[0], edge[row + 1])
                draw.line((*start, *end), EDGE, 2)
    return image


class _Chip(NamedTuple):
    left: float
    line: int
    width: float
    text: str
    colours: tuple[str, str]
    is_struck: bool


def _placed(pieces: Sequence[Piece], width: int) -> tuple[list[_Chip], int]:
    """Arrange tokens in lines; return them and the number of lines."""
    num_seen = sum(not piece.is_truncated for piece in pieces)
    shown = [(piece.text or "␣", piece) for piece in pieces[: num_seen + MAX_TRUNCATED]]
    chips: list[_Chip] = []
    left, line = 0.0, 0
    rest = len(pieces) - len(shown)
    end = Piece("", True, False, False)
    texts = [*shown[:num_seen], ("end", end), *shown[num_seen:]] + ([(f"+ {rest} more", end)] if rest else [])
    for text, piece in texts:
        size = font(13).getlength(text) + 8
        gap = 0.0 if left == 0 else WORD_GAP if piece.starts_word else PIECE_GAP
        if left and left + gap + size > width:
            left, line, gap = 0.0, line + 1, 0.0
        if line >= MAX_LINES:
            chips[-1] = chips[-1]._replace(text="…")
            break
        colours = UNKNOWN if piece.is_unknown else CUT if piece.is_truncated or text.startswith("+ ") else SEEN
        chips.append(
            _Chip(left + gap, line, size, text, END if piece is end and text == "end" else colours, piece.is_truncated)
        )
        left += gap + size
    return chips, min(line + 1, MAX_LINES)


def _draw_chips(draw: ImageDraw.ImageDraw, chips: Sequence[_Chip], top: int) -> None:
    for chip in chips:
        start = top + chip.line * CHIP
        background, ink = chip.colours
        draw.rounded_rectangle((chip.left, start, chip.left + chip.width - 1, start + CHIP - 4), 3, background)
        draw.text((chip.left + 4, start + 1), chip.text, ink, font(13))
        if chip.is_struck:
            middle = start + (CHIP - 4) // 2
            draw.line((chip.left + 2, middle, chip.left + chip.width - 3, middle), ink)
