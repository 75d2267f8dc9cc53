"""A scaling law beside its runs, and the errors of a fit that has not seen the largest runs."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

from aimv2.analysis.document.style import COLOURS, INK, MARKERS, PAPER, show_on_hover
from aimv2.analysis.inference.scaling_law import ScalingLaw

NUM_POINTS = 60  # of a curve
ON_THE_LOSS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)  # labels of a logarithmic axis, in each power of ten
MAX_SIZES = 7  # that have a curve each


def draw_scaling(law: ScalingLaw, labels: Mapping[str, str]) -> tuple[Figure, pd.DataFrame]:
    """Draw the loss over samples with a curve for each size, or over the only variable, and the errors beside it.

    Called in the context ``style``. Of many sizes, some have curves, and a run has the colour of the nearest of them.
    Open markers are held-out runs.

    Args:
        labels: what ``n``, ``d`` and ``loss`` are, with units.

    Returns:
        The figure, and its data: a row per run and point of a curve (``kind``).
    """
    labels = {name: label.replace("$", r"\$") for name, label in labels.items()}  # no formulas
    variable = law.law.variables[-1]
    tested = law.held_out.law or law.law
    runs = law.runs.assign(
        kind="run",
        is_held_out=law.held_out.is_held_R,
        predicted=law.law.predict(law.runs),
        error_percent=100 * (law.runs["loss"] / tested.predict(law.runs) - 1),
    )
    is_ladder = len(law.law.variables) > 1
    size_R = runs["n"].to_numpy(dtype=float) if is_ladder else np.ones(len(runs))
    sizes = np.unique(size_R)
    sizes = sizes[np.unique(np.linspace(0, len(sizes) - 1, MAX_SIZES).round().astype(int))]
    nearest_R = np.abs(np.log(size_R / sizes[:, None])).argmin(axis=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained", width_ratios=(3, 2))
    along = np.geomspace(runs[variable].min(), runs[variable].max(), NUM_POINTS)
    curves = []
    for number, size in enumerate(sizes):
        label = f"{in_plain_words(size)} {labels['n']}" if is_ladder else labels["loss"]
        curve = pd.DataFrame({**({"n": size} if is_ladder else {}), variable: along}).assign(kind="curve")
        curves.append(curve.assign(loss=law.law.predict(curve)))
        left.plot(along, curves[-1]["loss"], color=COLOURS[number], lw=1, label=label)
        for panel, name in ((left, "loss"), (right, "error_percent")):
            _draw_runs(panel, runs[nearest_R == number], variable, name, number)
    left.set(xscale="log", yscale="log", xlabel=labels[variable], ylabel=labels["loss"], title=law.law.text)
    left.yaxis.set_major_locator(LogLocator(subs=ON_THE_LOSS))
    left.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.legend()
    title = "errors of a fit without the open points" if law.held_out.law else "errors of the fit"
    right.axhline(0, color=INK, lw=0.8)
    right.set(xscale="log", xlabel=labels[variable], ylabel="loss minus prediction [%]", title=title)
    between = (1.0, 2.0, 5.0) if along[-1] < 100 * along[0] else (1.0,)  # over few powers of ten, numbers in between
    for panel in (left, right):
        panel.xaxis.set_major_locator(LogLocator(subs=between))
        panel.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf)))
        panel.xaxis.set_minor_formatter(NullFormatter())
    return figure, pd.concat([runs, *curves], ignore_index=True)


def in_plain_words(number: float) -> str:
    """Return a count: below a million as it is, and above with three digits in words, such as 463 million."""
    rounded = float(f"{number:.3g}")
    for name, unit in (("billion", 1e9), ("million", 1e6)):
        if rounded >= unit:
            return f"{rounded / unit:.3g} {name}"
    return f"{number:,.0f}"


def _draw_runs(axis: Axes, runs: pd.DataFrame, variable: str, name: str, number: int) -> None:
    for run in runs.to_dict("records"):
        face = PAPER if run["is_held_out"] else COLOURS[number]
        (point,) = axis.plot(
            run[variable], run[name], MARKERS[number], ms=4, mfc=face, mec=COLOURS[number], mew=0.8, ls="none"
        )
        texts = [f"{key} {run[key]:,.6g}" for key in ("n", "d", "seed") if key in run and not isinstance(run[key], str)]
        show_on_hover(point, f"{', '.join(texts)}: {name.replace('_percent', ' in %')} {run[name]:.4g}")
