"""Figures of reports, each with its data: differences of arms, learning curves, and a scaling law beside its runs.

Functions are called in the context ``style``.
"""

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

from aimv2.ablations.study import Study
from aimv2.analysis.document.style import BEHIND, COLOURS, INK, MARKERS, PAPER, SOFT, ArmLook, looks, show_on_hover
from aimv2.analysis.evidence.tables import LIMITS, Evidence
from aimv2.analysis.inference.intervals import UNLIMITED, Estimate, arm_mean
from aimv2.analysis.inference.scaling_law import ScalingLaw

NOTE = r" \(here [^)]*\)"  # what a label says of this scale
LONG = 60  # characters of a label, of which a row of a legend has room for two
CURVE_TITLES = {
    "held_out_caption_loss": "held-out caption loss [nats/token]",
    "held_out_pixel_loss": "held-out pixel loss, half the image as prefix",
    "held_out_recall": "held-out recall of captions",
}
NUM_POINTS = 60  # of a curve
ON_THE_LOSS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)  # labels of a logarithmic axis, in each power of ten
MAX_SIZES = 7  # that have a curve each


def differences_to_baseline(
    study: Study, evidence: Evidence, differences: Mapping[str, Estimate]
) -> tuple[Figure, pd.DataFrame]:
    """Draw each arm minus the baseline in the primary metric, with simultaneous intervals; dots are seeds."""
    metric = study.primary_metric
    base = evidence.value(metric, study.baseline)
    seeds = {arm: (evidence.value(metric, arm) - base).dropna() for arm in differences}
    better = "left" if study.lower_is_better else "right"
    title = f"{metric} minus baseline [{evidence.unit(metric)}], {better} is better"
    labels = {arm: study.label(arm) for arm in differences}
    notes = {arm: f"{difference.text()}, {difference.basis}" for arm, difference in differences.items()}
    figure = draw_differences(differences, seeds, labels, looks(study), notes, study.primary_margin, title)
    rows = [
        {"arm": arm, "label": labels[arm], **estimate_row(difference)}
        | {f"seed {seed}": value for seed, value in seeds[arm].items()}
        for arm, difference in differences.items()
    ]
    return figure, pd.DataFrame(rows)


def draw_differences(
    differences: Mapping[str, Estimate],
    runs: "Mapping[str, pd.Series[float]]",
    labels: Mapping[str, str],
    arm_looks: Mapping[str, ArmLook],
    notes: Mapping[str, str],
    margin: float,
    title: str,
) -> Figure:
    """Draw an interval and its runs in a row for each arm, the notes on hover, and the equivalence margin in grey.

    Labels are above the intervals, so that the figure can be read on a phone.
    """
    figure, axis = plt.subplots(figsize=(5.2, 0.46 * len(differences) + 0.9), layout="constrained")
    for row, (arm, difference) in enumerate(differences.items()):
        look, ends = arm_looks[arm], [difference.low, difference.mean, difference.high]
        axis.plot(runs[arm], np.full(len(runs[arm]), row + 0.2), "o", ms=3.5, alpha=0.5, color=look.color)
        (line,) = axis.plot(
            ends, [row] * 3, color=look.color, lw=2, marker=look.marker, ms=6, markevery=[1], solid_capstyle="butt"
        )
        show_on_hover(line, f"{labels[arm]}: {notes[arm]}")
        label, place = labels[arm].replace("$", r"\$"), axis.get_yaxis_transform()
        axis.text(0.01, row - 0.24, label, transform=place, va="center", bbox=BEHIND)
    axis.axvspan(-margin, margin, color=SOFT, alpha=0.16, lw=0, zorder=0)
    axis.axvline(0, color=INK, lw=0.8)
    axis.set(yticks=[], ylim=(len(differences) - 0.5, -0.6), xlabel=title.replace("$", r"\$"))
    axis.spines["left"].set_visible(False)
    return figure


def learning_curves(study: Study, evidence: Evidence) -> tuple[Figure, pd.DataFrame]:
    """Draw a held-out value over samples: whole runs, and the second half of the baseline's run without the controls.

    Values before training, which would take most of the height, are in the data alone.
    """
    column = evidence.curve
    data = _over_seeds(study, evidence, column)
    labels = {arm: re.sub(NOTE, "", study.label(arm)) for arm in dict.fromkeys(data["arm"])}
    columns = 2 if max(map(len, labels.values()), default=0) <= LONG else 1
    height = 3 + 0.2 * math.ceil(len(labels) / columns)
    figure, (whole, late) = plt.subplots(1, 2, figsize=(8.5, height), layout="constrained")
    budget = data.loc[data["arm"] == study.baseline, "samples"].max()
    for arm, label in labels.items():
        look = looks(study)[arm]
        for axis, start, end in ((whole, 1.0, math.inf), (late, 0.5 * budget, budget)):
            points = data[(data["arm"] == arm) & data["samples"].between(start, end)]
            if points.empty or (axis is late and arm not in study.arms):
                continue  # shorter runs are not in the second half
            (line,) = axis.plot(points["samples"], points["mean"], look.linestyle, color=look.color, label=label)
            axis.fill_between(points["samples"], points["low"], points["high"], color=look.color, alpha=0.13, lw=0)
            last = points.iloc[-1]
            show_on_hover(line, f"{study.label(arm)}: {last['mean']:.4g} after {last['samples']:,} samples")
    title = CURVE_TITLES.get(column, column.replace("held_out_", "held-out ").replace("_", " "))
    whole.set(title="whole run", xlabel="samples seen", ylabel=title)
    late.set(title="second half of the baseline's run, without controls", xlabel="samples seen")
    figure.legend(handles=whole.get_legend_handles_labels()[0], loc="outside lower center", ncols=columns)
    return figure, data


def _over_seeds(study: Study, evidence: Evidence, column: str) -> pd.DataFrame:
    """Return mean and interval over seeds for every arm and number of samples; arms without the value are left out."""
    points = evidence.curves.dropna(subset=[column])
    limits = LIMITS["accuracy"] if column == "held_out_recall" else UNLIMITED
    rows = [
        {"arm": arm, "label": study.label(arm), "samples": samples, **estimate_row(arm_mean(values, limits))}
        for arm in study.conditions
        for samples, values in points[points["arm"] == arm].groupby("samples")[column]
    ]
    return pd.DataFrame(rows, columns=["arm", "label", "samples", "mean", "low", "high", "level", "n"])


def estimate_row(estimate: Estimate) -> dict[str, float]:
    """Return an estimate as a row of data; the ends are NaN if there is no interval."""
    return {name: getattr(estimate, name) for name in ("mean", "low", "high", "level", "n")}


def draw_scaling(law: ScalingLaw, labels: Mapping[str, str]) -> tuple[Figure, pd.DataFrame]:
    """Draw the loss over samples with a curve for each size, or over the only variable, and the errors beside it.

    Of many sizes, some have curves, and a run has the colour of the nearest of them. Open markers are held-out runs.
    ``labels`` are what ``n``, ``d`` and ``loss`` are, with units; the data have a row per run and point of a curve.
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
