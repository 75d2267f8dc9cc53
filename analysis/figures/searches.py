"""The trials of a search, as parallel coordinates."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from aimv2.spec.metrics import lower_is_better
from analysis.document.style import COLOURS, INK, PAPER, SOFT, show_on_hover
from analysis.evidence.searches import Search

TOP = 0.25  # the share of trials that stand out
BEST = COLOURS[3]
MAX_WIDTH = 11.0  # in inches, of a figure that can be read on a page


def search_coordinates(search: Search) -> tuple[Figure, pd.DataFrame]:
    """Draw all trials of a search across its space, and further metrics, to the metric that decides."""
    first, *others = search.metrics
    rows = []
    for one in sorted(search.trials, key=lambda one: one.number):
        values = one.values if one.state == "finished" and one.values else [math.nan] * len(search.metrics)
        named = dict(zip([metric.name for metric in search.metrics], values, strict=True))
        rows.append({"trial": one.number, **one.params, **named})
    columns = {one.name: one.log for one in search.space} | {metric.name: False for metric in others}
    return parallel_coordinates(
        pd.DataFrame(rows, columns=["trial", *columns, first.name]),
        columns,
        first.name,
        levels={one.name: one.levels for one in search.space if one.levels},
        is_lower_better=first.sign == 1,
    )


def parallel_coordinates(
    trials: pd.DataFrame,
    parameters: Mapping[str, bool],
    metric: str,
    *,
    levels: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    is_lower_better: bool | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw each trial as a line across its parameters to the metric that decides; better is up.

    The best quarter is coloured and the best trial is thick. Trials without a value, which were pruned, failed or are
    unfinished, are dotted lines with crosses and end before the metric.

    Args:
        trials: a row per trial, with the column ``trial``, a column per parameter and one for the metric.
        parameters: by path, True for a logarithmic scale.
        metric: that decides.
        levels: of parameters that are no numbers, the label of each value.
        is_lower_better: of the metric; by default ``aimv2.spec.metrics`` knows it.
    """
    is_lower_better = lower_is_better(metric) if is_lower_better is None else is_lower_better
    data = trials[["trial", *parameters, metric]].sort_values(
        metric, ascending=is_lower_better, ignore_index=True, kind="stable"
    )
    columns = {**parameters, metric: False}
    heights = pd.DataFrame(
        {
            name: _places(data[name], levels[name]) if name in levels else _height(data[name], is_log=is_log)
            for name, is_log in columns.items()
        }
    )
    if is_lower_better:
        heights[metric] = 1 - heights[metric]
    num_done = int(data[metric].notna().sum())
    width = min(max(5.0, 1.7 * len(columns)), MAX_WIDTH)
    figure, axis = plt.subplots(figsize=(width, 3.6), layout="constrained")
    for rank in reversed(range(len(data))):
        is_done, is_top = rank < num_done, rank < TOP * num_done
        (line,) = axis.plot(
            range(len(columns)),
            heights.iloc[rank],
            color=BEST if is_top and is_done else SOFT,
            alpha=1 if is_top else 0.45,
            lw=2.8 if rank == 0 and is_done else 1.1,
            ls="-" if is_done else ":",
            marker="" if is_done else "x",  # one parameter alone makes no line
            ms=4,
        )
        values = ", ".join(f"{name} {_shown(data[name].iat[rank], levels.get(name))}" for name in columns)
        show_on_hover(line, f"trial {data['trial'].iat[rank]}: {values}")
    for place, (name, is_log) in enumerate(columns.items()):
        axis.axvline(place, color=INK, lw=0.8)
        is_flipped = name == metric and is_lower_better
        ticks = _level_ticks(levels[name]) if name in levels else _ticks(data[name], is_log=is_log)
        for height, text in ticks:
            axis.text(
                place + 0.03,
                1 - height if is_flipped else height,
                text,
                va="center",
                fontsize=8,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
            )
    axis.set_xticks(range(len(columns)), [_wrapped(name, is_log=is_log) for name, is_log in columns.items()])
    axis.set_xlim(-0.15, len(columns) - 0.6)
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure, data


def _height(values: "pd.Series[float]", *, is_log: bool) -> "pd.Series[float]":
    """Return values as heights from 0 to 1; 0.5 if they are all equal."""
    scaled = values.map(math.log) if is_log else values
    low, high = scaled.min(), scaled.max()
    return (scaled - low) / (high - low) if high > low else scaled * 0 + 0.5


def _places(values: "pd.Series[str]", levels: Mapping[str, str]) -> "pd.Series[float]":
    """Return levels as heights from 0 to 1, in their order."""
    return values.map(dict(zip(levels, _even(len(levels)), strict=True))).astype(float)


def _even(number: int) -> list[float]:
    """Return so many heights at equal distances from 0 to 1; a single one is in the middle."""
    return [place / (number - 1) for place in range(number)] if number > 1 else [0.5]


def _level_ticks(levels: Mapping[str, str]) -> list[tuple[float, str]]:
    """Return heights and labels of levels."""
    return list(zip(_even(len(levels)), levels.values(), strict=True))


def _ticks(values: "pd.Series[float]", *, is_log: bool) -> list[tuple[float, str]]:
    """Return heights and values of the ends and the middle of an axis."""
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return [(0.5, f"{low:.3g}")] if math.isfinite(low) else []
    middle = math.sqrt(low * high) if is_log else (low + high) / 2
    return [(height, f"{value:.3g}") for height, value in ((0.0, low), (0.5, middle), (1.0, high))]


def _shown(value: Any, levels: Mapping[str, str] | None) -> str:
    """Return a value in words."""
    if pd.isna(value):
        return "none"
    return levels[value] if levels else f"{value:.3g}"


def _wrapped(name: str, *, is_log: bool) -> str:
    """Return the name of a parameter, with its path on a line of its own."""
    path, _, last = name.rpartition(".")
    return "\n".join(filter(None, (path, f"{last} (log)" if is_log else last)))
