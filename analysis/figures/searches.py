"""The trials of a search, as parallel coordinates."""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from aimv2.evaluation.metrics import lower_is_better
from analysis.figures.style import COLOURS, INK, PAPER, SOFT, show_on_hover

TOP = 0.25  # the share of trials that stand out
BEST = COLOURS[3]


def parallel_coordinates(
    trials: pd.DataFrame, parameters: Mapping[str, bool], metric: str
) -> tuple[Figure, pd.DataFrame]:
    """Draw each trial as a line across its parameters to the metric that decides; better is up.

    The best quarter is coloured and the best trial is thick. Trials without a value, which failed or are unfinished,
    are dotted and end before the metric.

    Args:
        trials: a row per trial, with the column ``trial``, a column per parameter and one for the metric.
        parameters: by path, True for a logarithmic scale.
        metric: a name of ``aimv2.evaluation.metrics``, which knows its direction.
    """
    is_lower_better = lower_is_better(metric)
    data = trials[["trial", *parameters, metric]].sort_values(metric, ascending=is_lower_better, ignore_index=True)
    columns = {**parameters, metric: False}
    heights = pd.DataFrame({name: _height(data[name], is_log=is_log) for name, is_log in columns.items()})
    if is_lower_better:
        heights[metric] = 1 - heights[metric]
    num_done = int(data[metric].notna().sum())
    figure, axis = plt.subplots(figsize=(max(5.0, 1.7 * len(columns)), 3.6), layout="constrained")
    for rank in reversed(range(len(data))):
        is_done, is_top = rank < num_done, rank < TOP * num_done
        (line,) = axis.plot(
            range(len(columns)),
            heights.iloc[rank],
            color=BEST if is_top and is_done else SOFT,
            alpha=1 if is_top else 0.45,
            lw=2.8 if rank == 0 and is_done else 1.1,
            ls="-" if is_done else ":",
        )
        values = ", ".join(f"{name} {data[name].iat[rank]:.3g}" for name in columns)
        show_on_hover(line, f"trial {data['trial'].iat[rank]}: {values}")
    for place, (name, is_log) in enumerate(columns.items()):
        axis.axvline(place, color=INK, lw=0.8)
        is_flipped = name == metric and is_lower_better
        for height, value in _ticks(data[name], is_log=is_log):
            axis.text(
                place + 0.03,
                1 - height if is_flipped else height,
                f"{value:.3g}",
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


def _ticks(values: "pd.Series[float]", *, is_log: bool) -> list[tuple[float, float]]:
    """Return heights and values of the ends and the middle of an axis."""
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return [(0.5, low)] if math.isfinite(low) else []
    middle = math.sqrt(low * high) if is_log else (low + high) / 2
    return [(0.0, low), (0.5, middle), (1.0, high)]


def _wrapped(name: str, *, is_log: bool) -> str:
    """Return the name of a parameter, with its path on a line of its own."""
    path, _, last = name.rpartition(".")
    return "\n".join(filter(None, (path, f"{last} (log)" if is_log else last)))
