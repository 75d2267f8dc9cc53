"""A scaling law: loss against training FLOPs by size with the compute-optimal frontier, and its test on the largest.

Functions are called in the context ``style``.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

from aimv2.analysis.document.style import COLOURS, INK, MARKERS, PAPER, SOFT, show_on_hover
from aimv2.analysis.inference.scaling.assess import ScalingLaw
from aimv2.analysis.inference.scaling.frontier import Cost, Frontier

NUM_POINTS = 60  # of a curve
ON_THE_LOSS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)  # labels of a logarithmic axis, in each power of ten
MAX_NAMED = 7  # sizes with a curve and a colour of their own
Labels = Mapping[str, str]


class _Series(NamedTuple):
    """The runs of one curve: one size, or all."""

    runs: pd.DataFrame
    color: str
    marker: str
    label: str
    has_curve: bool = True


def draw_scaling(
    law: ScalingLaw, labels: Labels, cost: Cost | None = None, frontier: Frontier | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Draw runs and the fitted law, and beside them the errors of the fit that has not seen the largest runs.

    With sizes and samples, the left axis has FLOPs, a curve per size, and the frontier with the interval of its loss.
    With one variable, it has that variable. Open markers are held-out runs.

    Args:
        labels: what ``n``, ``d`` and ``loss`` are, with units.
        cost: needed with two variables.

    Returns:
        The figure, and its data: a row per run, point of a curve and point of the frontier (``kind``).
    """
    labels = {name: label.replace("$", r"\$") for name, label in labels.items()}  # no formulas
    variable = "n" if "n" in law.runs else "d"
    runs = law.runs.assign(
        x=law.runs[variable] if cost is None else cost.flops(law.runs["n"].to_numpy(), law.runs["d"].to_numpy()),
        is_held_out=law.runs.index.isin(law.split.held_out.index),
    )
    series = list(_series(runs, labels, by_size=cost is not None))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained", width_ratios=(3, 2))
    data = [runs.assign(kind="run", predicted=law.law.predict(runs))]
    for one in series:
        _draw_runs(left, one, "loss", one.runs["loss"])
        if one.has_curve:
            data.append(_draw_curve(left, law, one, cost))
    if frontier is not None:
        data.append(_draw_frontier(left, frontier))
    label = labels[variable] if cost is None else "training FLOPs"
    left.set(xscale="log", yscale="log", xlabel=label, ylabel=labels["loss"], title=law.law.form.text)
    left.yaxis.set_major_locator(LogLocator(subs=ON_THE_LOSS))
    left.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.legend()
    data[0] = data[0].assign(error_percent=_draw_errors(right, law, series, label))
    for panel in (left, right):
        _mark_powers(panel, runs["x"])
    return figure, pd.concat(data, ignore_index=True)


def _mark_powers(axis: Axes, values: "pd.Series[float]") -> None:
    """Label powers of ten, and over less than two of them some numbers in between."""
    between = (1.0, 2.0, 5.0) if values.max() < 100 * values.min() else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=between))
    axis.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def in_plain_words(number: float) -> str:
    """Return a count: below a million as it is, and above with three digits in words, such as 463 million."""
    rounded = float(f"{number:.3g}")
    for name, unit in (("billion", 1e9), ("million", 1e6)):
        if rounded >= unit:
            return f"{rounded / unit:.3g} {name}"
    return f"{number:,.0f}"


def _series(runs: pd.DataFrame, labels: Labels, *, by_size: bool) -> Iterator[_Series]:
    """Yield the runs of each size; of more sizes than there are colours, some have curves and all are grey."""
    if not by_size:
        yield _Series(runs, COLOURS[0], MARKERS[0], labels["loss"])
        return
    sizes = np.sort(runs["n"].unique())
    shown = sizes[np.unique(np.linspace(0, len(sizes) - 1, MAX_NAMED).round().astype(int))]
    if len(shown) < len(sizes):
        yield _Series(runs, SOFT, MARKERS[0], f"runs of {len(sizes)} sizes", has_curve=False)
    for size, color, marker in zip(shown, COLOURS, MARKERS, strict=False):
        yield _Series(runs[runs["n"] == size], color, marker, f"{in_plain_words(size)} {labels['n']}")


def _draw_runs(axis: Axes, series: _Series, name: str, values: "pd.Series[float]") -> None:
    for row, value in zip(series.runs.to_dict("records"), values, strict=True):
        face = PAPER if row["is_held_out"] else series.color
        (point,) = axis.plot(row["x"], value, series.marker, ms=4, mfc=face, mec=series.color, mew=0.8, ls="none")
        seed = f", seed {row['seed']}" if "seed" in row else ""
        show_on_hover(point, f"{series.label}{seed}: {name} {value:.4g}")


def _draw_curve(axis: Axes, law: ScalingLaw, series: _Series, cost: Cost | None) -> pd.DataFrame:
    """Draw the law over the range of the runs, and return its points."""
    variable = "n" if cost is None and "n" in law.runs else "d"
    along = np.geomspace(law.runs[variable].min(), law.runs[variable].max(), NUM_POINTS)
    points = pd.DataFrame({variable: along})
    if cost is not None:
        points["n"] = float(series.runs["n"].iloc[0])
    points["x"] = along if cost is None else cost.flops(points["n"].to_numpy(), along)
    points["loss"] = law.law.predict(points)
    axis.plot(points["x"], points["loss"], color=series.color, lw=1, label=series.label)
    return points.assign(kind="curve")


def _draw_frontier(axis: Axes, frontier: Frontier) -> pd.DataFrame:
    table = frontier.table
    axis.fill_between(table["flops"], table["loss_low"], table["loss_high"], color=INK, alpha=0.12, lw=0)
    axis.plot(table["flops"], table["loss"], "--", color=INK, lw=1.2, label="compute-optimal, 95 % interval")
    return table.assign(kind="frontier", x=table["flops"])


def _draw_errors(axis: Axes, law: ScalingLaw, series: list[_Series], label: str) -> np.ndarray:
    """Draw the relative errors of the fit without the held-out runs, and return them in per cent."""
    tested = law.chosen.tested or law.law
    errors = 100 * (law.runs["loss"] / tested.predict(law.runs) - 1)
    for one in series:
        _draw_runs(axis, one, "error in %", errors[one.runs.index])
    axis.axhline(0, color=INK, lw=0.8)
    title = "errors of a fit without the open points" if law.chosen.tested else "errors of the fit"
    axis.set(xscale="log", xlabel=label, ylabel="loss minus prediction [%]", title=title)
    return np.asarray(errors, dtype=float)
