"""Two factors in one figure: lines that are parallel do not interact."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.document.style import COLOURS, MARKERS, show_on_hover
from analysis.inference.intervals import Estimate

WIDTH = 0.5  # of the room between two levels, over which lines are spread so that their intervals do not overlap
BESIDE = 0.06  # from an interval to the marks of its runs


def interactions(
    cells: Mapping[tuple[str, ...], Estimate], factors: Mapping[str, Sequence[str]], values: pd.DataFrame, label: str
) -> tuple[Figure, pd.DataFrame]:
    """Draw the mean of each combination of two factors, with its interval, and a dot per run.

    The factor with more levels is on the x axis; each level of the other has a line.

    Args:
        cells: the mean of each combination that ran, by the levels in the order of ``factors``.
        factors: two factors with their levels, in the order in which they are drawn.
        values: a row per run: ``value``, and a column per factor.
        label: the metric and its unit.
    """
    along, across = sorted(factors, key=lambda name: -len(factors[name]))
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.grid(visible=False, axis="x")
    rows = []
    looks = zip(factors[across], itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    for number, (line, color, marker) in enumerate(looks):
        shift = WIDTH * ((number + 0.5) / len(factors[across]) - 0.5)
        places, means = [], []
        for place, level in enumerate(factors[along]):
            levels = {along: level, across: line}
            estimate = cells.get(tuple(levels[name] for name in factors))
            if estimate is None:
                continue
            own = values.loc[(values[along] == level) & (values[across] == line), "value"]
            axis.plot([place + shift - BESIDE] * len(own), own, ls="", marker=marker, ms=3, color=color, alpha=0.4)
            ends = [estimate.low, estimate.high]
            (bar,) = axis.plot([place + shift] * 2, ends, color=color, lw=2, solid_capstyle="butt")
            show_on_hover(bar, f"{level}, {line}: {estimate.text('.4g')}")
            places.append(place + shift)
            means.append(estimate.mean)
            rows.append(
                {name: levels[name] for name in factors}
                | {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}
            )
        axis.plot(places, means, color=color, marker=marker, ms=7, lw=1.2, label=line)
    axis.set_xticks(np.arange(len(factors[along])), factors[along])
    axis.set_xlim(-0.5, len(factors[along]) - 0.5)
    axis.set_xlabel(along)
    axis.set_ylabel(label)
    figure.legend(title=across, loc="outside right upper", alignment="left", fontsize="small", title_fontsize="small")
    return figure, pd.DataFrame(rows)
