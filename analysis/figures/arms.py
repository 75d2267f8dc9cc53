"""The arms of a study in figures: differences from the baseline, and learning curves.

Functions return a figure and its data, and are called in the context ``style``.
"""

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aimv2.ablations.study import Study
from aimv2.analysis.document.style import BEHIND, INK, SOFT, ArmLook, looks, show_on_hover
from aimv2.analysis.evidence.tables import LIMITS, Evidence
from aimv2.analysis.inference.intervals import UNLIMITED, Estimate, arm_mean

NOTE = r" \(here [^)]*\)"  # what a label says of this scale
LONG = 60  # characters of a label, of which a row of a legend has room for two

CURVE_TITLES = {
    "held_out_caption_loss": "held-out caption loss [nats/token]",
    "held_out_pixel_loss": "held-out pixel loss, half the image as prefix",
    "held_out_recall": "held-out recall of captions",
}


def differences_to_baseline(
    study: Study, evidence: Evidence, differences: Mapping[str, Estimate]
) -> tuple[Figure, pd.DataFrame]:
    """Draw each arm minus the baseline in the primary metric, with the equivalence margin in grey.

    Dots are seeds, bars simultaneous intervals. Labels are above the bars, so that the figure can be read on a phone.
    """
    metric = study.primary_metric
    figure, axis = plt.subplots(figsize=(5.2, 0.46 * len(differences) + 0.9), layout="constrained")
    rows = []
    for row, (arm, difference) in enumerate(differences.items()):
        seeds = (evidence.value(metric, arm) - evidence.value(metric, study.baseline)).dropna()
        label, look = study.label(arm), looks(study)[arm]
        axis.plot(seeds, np.full(len(seeds), row + 0.2), "o", ms=3.5, alpha=0.5, color=look.color)
        draw_estimate(axis, difference, row, look, f"{label}: {difference.text()}, {difference.basis}")
        axis.text(0.01, row - 0.24, label, transform=axis.get_yaxis_transform(), va="center", bbox=BEHIND)
        of_seeds = {f"seed {seed}": value for seed, value in seeds.items()}
        rows.append({"arm": arm, "label": label, **estimate_row(difference), **of_seeds})
    mark_zero(axis, study.primary_margin)
    axis.set_yticks([])
    axis.set_ylim(len(differences) - 0.5, -0.6)
    axis.spines["left"].set_visible(False)
    better = "left" if study.lower_is_better else "right"
    axis.set_xlabel(f"{metric} minus baseline [{evidence.unit(metric)}], {better} is better")
    return figure, pd.DataFrame(rows)


def learning_curves(study: Study, evidence: Evidence) -> tuple[Figure, pd.DataFrame]:
    """Draw a held-out value over samples: whole runs, and the second half of the baseline's run without the controls.

    Lines are means over seeds with 95 % intervals. Values before training, which would take most of the height, are in
    the data alone.
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


def draw_estimate(axis: Axes, estimate: Estimate, row: float, look: ArmLook, text: str) -> None:
    """Draw a mean with its interval in a row; the text is shown on hover."""
    (line,) = axis.plot(
        [estimate.low, estimate.mean, estimate.high],
        [row] * 3,
        color=look.color,
        lw=2,
        marker=look.marker,
        ms=6,
        markevery=[1],
        solid_capstyle="butt",
    )
    show_on_hover(line, text)


def mark_zero(axis: Axes, margin: float) -> None:
    """Draw the line of no difference, and the equivalence margin in grey."""
    axis.axvspan(-margin, margin, color=SOFT, alpha=0.16, lw=0, zorder=0)
    axis.axvline(0, color=INK, lw=0.8)


def estimate_row(estimate: Estimate) -> dict[str, float]:
    """Return an estimate as a row of data; the ends are NaN if there is no interval."""
    return {name: getattr(estimate, name) for name in ("mean", "low", "high", "level", "n")}
