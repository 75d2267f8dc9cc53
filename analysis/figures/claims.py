"""All claims in one picture, and the differences behind those that are judged.

Functions return a figure and its data, and are called in the context ``style``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aimv2.analysis.document.model import VERDICTS
from aimv2.analysis.document.style import BEHIND, INK, SOFT, show_on_hover

COLUMNS = 3
COLUMN, ROW = 3.2, 0.3  # inches
BAR = 0.08  # of a column
CHARACTER = 0.023  # about, of a column
HEADER = 0.8  # of a row, the name of a claim above its differences
FAR = 6.0  # margins, where a difference is cut off
HOLLOW = ("not run yet",)


class ClaimCell(NamedTuple):
    """A claim in the map: its name, its verdict in a word, and what the pointer shows."""

    name: str
    word: str
    note: str


class Row(NamedTuple):
    """A difference in units of its margin, with its interval; above 0 if it is as the claim says.

    Attributes:
        verdict: that on the claim, of all studies.
        word: that of the study.
        paper: what the paper's own numbers show; empty if it has none.
        text: what is compared, and the difference in its own unit.
    """

    claim: str
    verdict: str
    word: str
    paper: str
    text: str
    mean: float
    low: float
    high: float


def claims_map(groups: Mapping[str, Sequence[ClaimCell]]) -> tuple[Figure, pd.DataFrame]:
    """Draw a cell for each claim by group, in the colour of its verdict."""
    words = dict.fromkeys(cell.word for cells in groups.values() for cell in cells)
    legend = _legend([word for word in VERDICTS if word in words])
    num_legend = 1 + max(y for _, y in legend.values()) if legend else 0
    num_rows = sum(1 + math.ceil(len(cells) / COLUMNS) for cells in groups.values()) + num_legend
    figure, axis = plt.subplots(figsize=(COLUMN * COLUMNS, ROW * num_rows))
    figure.subplots_adjust(0, 0, 1, 1)
    axis.set_xlim(0, COLUMNS)
    axis.set_ylim(num_rows, 0)
    axis.axis("off")
    for word, (x, y) in legend.items():
        axis.add_patch(_patch(x, y + 0.25, 0.5, word))
        axis.text(x + 1.5 * BAR, y + 0.52, word, va="center", color=INK)
    y = num_legend
    for group, cells in groups.items():
        axis.text(0, y + 0.62, group, va="center", color=SOFT)
        y += 1
        for number, cell in enumerate(cells):
            x, top = number % COLUMNS, y + number // COLUMNS
            axis.add_patch(_patch(x, top + 0.1, 0.8, cell.word))
            text = axis.text(x + 1.5 * BAR, top + 0.52, cell.name, va="center", color=INK)
            show_on_hover(text, cell.note)
        y += math.ceil(len(cells) / COLUMNS)
    rows = [(group, *cell) for group, cells in groups.items() for cell in cells]
    return figure, pd.DataFrame(rows, columns=["group", "claim", "verdict", "note"])


def _legend(words: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Return where each word stands: the place in its row, and the row."""
    found, x, y = dict[str, tuple[float, int]](), 0.0, 0
    for word in words:
        width = 2.2 * BAR + CHARACTER * len(word)
        if x + width > COLUMNS:
            x, y = 0.0, y + 1
        found[word] = (x, y)
        x += width
    return found


def _patch(x: float, y: float, height: float, word: str) -> Rectangle:
    color = VERDICTS[word].color
    return Rectangle((x, y), BAR, height, facecolor="none" if word in HOLLOW else color, edgecolor=color)


def forest(rows: Sequence[Row]) -> tuple[Figure, pd.DataFrame]:
    """Draw differences in units of their margins below the names of claims; those beyond FAR are cut off there."""
    is_first = [number == 0 or rows[number - 1].claim != row.claim for number, row in enumerate(rows)]
    places = [number + HEADER * sum(is_first[: number + 1]) for number in range(len(rows))]
    height = len(rows) + HEADER * sum(is_first)
    figure, axis = plt.subplots(figsize=(8.5, 0.42 * height + 0.9), layout="constrained")
    axis.axvspan(-1, 1, color=SOFT, alpha=0.15, lw=0)
    axis.axvline(0, color=INK, lw=1)
    text_style: dict[str, Any] = {
        "x": 0.01,
        "transform": axis.get_yaxis_transform(),
        "va": "center",
        "color": INK,
        "bbox": BEHIND,
    }
    for place, row, has_header in zip(places, rows, is_first, strict=True):
        mean, low, high = (min(max(value, -FAR), FAR) for value in (row.mean, row.low, row.high))
        color = VERDICTS[row.word].color
        (line,) = axis.plot([low, high], [place, place], color=color, lw=2)
        show_on_hover(line, f"{row.claim}, {row.text}")
        if abs(row.mean) < FAR:
            axis.plot(mean, place, "o", color=color, ms=6)
        for end in (low, high):
            if abs(end) == FAR:
                axis.plot(end, place, ">" if end > 0 else "<", color=color, ms=6)
        axis.text(y=place - 0.38, s=row.text, **text_style)
        if has_header:
            header = f"{row.claim}: {row.verdict}" + (f"; paper: {row.paper}" if row.paper else "")
            axis.text(y=place - 0.38 - HEADER, s=header, weight="bold", **text_style)
    axis.set_yticks([])
    axis.tick_params(labeltop=True)
    axis.set_ylim(height - 0.5, -0.6)
    axis.set_xlim(-1.04 * FAR, 1.04 * FAR)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("difference in units of its equivalence margin, on the right as the claim says")
    return figure, pd.DataFrame(rows)
