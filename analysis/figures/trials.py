"""The Pareto front of a search of two metrics. Optuna's dashboard draws more."""

from typing import Literal

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis.document.style import COLOURS, INK, SOFT, show_on_hover
from analysis.evidence.searches import Search

FINISHED, WINNER = COLOURS[0], COLOURS[3]


def pareto_front(search: Search) -> tuple[Figure, pd.DataFrame]:
    """Draw the finished trials in the first metric and the second, with those that no other one beats in both.

    Called in the context ``style``. Also returns the data.
    """
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
    if (one := search.winning) is not None and one.values:
        place = (one.values[1], one.values[0])
        axis.plot(*place, "o", ms=11, mfc="none", mec=WINNER, mew=2, clip_on=False, label="winner of the search")
    better = "lower" if first.sign == 1 else "higher"
    axis.set_xlabel(_labelled(second.name, second.unit))
    axis.set_ylabel(f"{_labelled(first.name, first.unit)}\n({search.split} split, {better} is better)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure, data


def _labelled(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name
