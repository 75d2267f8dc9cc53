"""The trials of a search: their values in the order of the search, or the Pareto front. Optuna's dashboard draws more.

Functions return a figure and its data, and are called in the context ``style``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.document.style import COLOURS, INK, SOFT, show_on_hover
from analysis.evidence.searches import Search

FINISHED, WINNER = COLOURS[0], COLOURS[3]
ROOM = 0.15  # of the range of finished trials, above and below it
LEGEND: dict[str, Any] = {"loc": "outside lower center", "ncols": 3}
MARKS: Mapping[str, dict[str, Any]] = {
    "pruned": {"marker": "x", "color": SOFT, "mew": 1.3, "ms": 5},
    "finished": {"marker": "o", "color": FINISHED, "ms": 5},
}
NO_VALUE = {"marker": "|", "color": INK, "mew": 1.3, "ms": 9}


def history(search: Search) -> tuple[Figure, pd.DataFrame]:
    """Draw the first metric of each trial by its number, and the best so far as a line.

    Pruned trials have no value, since they are pruned by another one, so they are on the axis of numbers. So are trials
    that failed.
    """
    trials = sorted(search.trials, key=lambda one: one.number)
    rows = [(one.number, one.state, one.value) for one in trials]
    data = pd.DataFrame(rows, columns=["trial", "state", "value"]).astype({"value": float})
    is_finished = data["state"] == "finished"
    best = (search.metric.sign * data["value"].where(is_finished)).cummin() * search.metric.sign
    data["best"] = best.ffill()
    figure, axis = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    low, high = _range(data.loc[is_finished, "value"])
    axis.set_ylim(low, high)
    axis.step(data["trial"], data["best"], where="post", color=INK, lw=1.2, label="best so far")
    for state, mark in MARKS.items():
        own = data[data["state"] == state]
        _mark_each(axis, own, own["value"].fillna(low).tolist(), state, mark)
    rest = data[data["state"].isin(["failed", "running"])]
    _mark_each(axis, rest, [low] * len(rest), "failed", NO_VALUE)
    _mark_winner(axis, search, "number")
    axis.set(xlabel="trial", ylabel=_title(search))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(**LEGEND)
    return figure, data


def pareto_front(search: Search) -> tuple[Figure, pd.DataFrame]:
    """Draw the finished trials in the first metric and the second, with those that no other one beats in both."""
    first, second = search.metrics[:2]
    rows = [
        (one.number, one.values[0], one.values[1], one.number in search.front) for one in search.finished if one.values
    ]
    data = pd.DataFrame(rows, columns=["trial", first.name, second.name, "front"])
    data = data.sort_values([second.name, first.name], ignore_index=True)
    figure, axis = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    front, others = data[data["front"]], data[~data["front"]]
    where: Literal["pre", "post"] = "post" if second.sign == 1 else "pre"
    if len(search.metrics) == 2:
        axis.step(front[second.name], front[first.name], where=where, color=INK, lw=1, zorder=1)
    for part, color, label in ((others, SOFT, "other trials"), (front, FINISHED, "Pareto front")):
        for number, (_, row) in enumerate(part.iterrows()):
            (dot,) = axis.plot(
                row[second.name], row[first.name], "o", ms=6, color=color, label="_" * bool(number) + label
            )
            values = f"{first.name} {row[first.name]:.4g}, {second.name} {row[second.name]:.3g}"
            show_on_hover(dot, f"trial {row['trial']:.0f}: {values}")
    _mark_winner(axis, search, second.name)
    axis.set(xlabel=_labelled(second.name, second.unit), ylabel=_title(search))
    figure.legend(**LEGEND)
    return figure, data


def _mark_each(axis: Axes, rows: pd.DataFrame, heights: Sequence[float], label: str, mark: dict[str, Any]) -> None:
    for height, row in zip(heights, rows.to_dict("records"), strict=True):
        (dot,) = axis.plot(row["trial"], height, ls="", clip_on=False, label=label, **mark)
        label = "_" + label.lstrip("_")  # the legend has the first one
        value = f"{row['value']:.4g}" if math.isfinite(row["value"]) else "no value"
        show_on_hover(dot, f"trial {row['trial']}, {row['state']}: {value}")


def _mark_winner(axis: Axes, search: Search, place: str) -> None:
    """Circle the winner, which has its number on the horizontal axis, or its second metric."""
    if (one := search.winning) is None or not one.values:
        return
    x = one.number if place == "number" else one.values[1]
    axis.plot(x, one.values[0], "o", ms=11, mfc="none", mec=WINNER, mew=2, clip_on=False, label="winner of the search")


def _range(values: "pd.Series[float]") -> tuple[float, float]:
    """Return the ends of an axis with room around these values."""
    if values.empty:
        return 0.0, 1.0
    room = ROOM * (values.max() - values.min()) or abs(values.max()) * ROOM or 1.0
    return float(values.min() - room), float(values.max() + room)


def _title(search: Search) -> str:
    better = "lower" if search.metric.sign == 1 else "higher"
    return f"{_labelled(search.metric.name, search.metric.unit)}\n({search.split} split, {better} is better)"


def _labelled(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name
