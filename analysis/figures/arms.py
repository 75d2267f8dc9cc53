"""The arms of a study in figures: differences from the baseline, and learning curves.

Functions return a figure and its data, and are called in the context ``style``.
"""

import math
import re
from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aimv2.ablations.study import Study
from aimv2.analysis.document.style import BEHIND, INK, SOFT, ArmLook, looks, show_on_hover
from aimv2.analysis.evidence.tables import LIMITS, Evidence
from aimv2.analysis.inference.intervals import LEVEL, UNLIMITED, Estimate, arm_mean
from aimv2.analysis.judgement.compare import Differences, are_paired
from aimv2.analysis.judgement.controls import NULL_LEVEL

OFF_SCALE = 3  # times the largest end of the arms' intervals, beyond which a control is cut off
LEVELS = {"null_control": NULL_LEVEL, "positive_control": LEVEL}
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
    """Draw each arm and control minus the baseline in the primary metric, with the equivalence margin in grey.

    Dots are seeds (minus the baseline's mean if unpaired), bars simultaneous intervals. Each control has an interval of
    its own; one that would leave the arms no room is cut off, with its value in words. Labels are above the bars, so
    that the figure can be read on a phone.
    """
    metric, margin = study.primary_metric, study.primary_margin
    controls = Differences(study, evidence)
    alone = {arm: controls.separately(metric, arm, LEVELS[arm], covers_items=True) for arm in study.controls}
    differences = {**differences, **{arm: estimate for arm, estimate in alone.items() if estimate.n}}
    figure, axis = plt.subplots(figsize=(5.2, 0.46 * len(differences) + 0.9), layout="constrained")
    rows, of_arm = [], {}
    for row, (arm, difference) in enumerate(differences.items()):
        seeds, look = _by_seed(study, evidence, arm), looks(study)[arm]
        axis.plot(seeds, np.full(len(seeds), row + 0.2), "o", ms=3.5, alpha=0.5, color=look.color)
        draw_estimate(axis, difference, row, look, f"{study.label(arm)}: {difference.text()}, {difference.basis}")
        axis.text(0.01, row - 0.24, study.label(arm), transform=axis.get_yaxis_transform(), va="center", bbox=BEHIND)
        of_arm[arm] = seeds.tolist()
        of_seeds = {f"seed {seed}": value for seed, value in seeds.items()}
        rows.append({"arm": arm, "label": study.label(arm), **estimate_row(difference), **of_seeds})
    mark_zero(axis, margin)
    axis.set_yticks([])
    axis.set_ylim(len(differences) - 0.5, -0.6)
    axis.spines["left"].set_visible(False)
    _leave_room_for_arms(axis, study, differences, of_arm)
    better = "left" if study.lower_is_better else "right"
    axis.set_xlabel(f"{metric} minus baseline [{evidence.unit(metric)}], {better} is better")
    return figure, pd.DataFrame(rows)


def learning_curves(study: Study, evidence: Evidence) -> tuple[Figure, pd.DataFrame]:
    """Draw a held-out value over samples: whole runs, and the second half of the baseline's run without the controls.

    Lines are means over seeds with 95 % intervals. Arms without the value are left out. So are, but in the
    data, values before training, which would take most of the height.
    """
    column = evidence.curve
    points = evidence.curves.dropna(subset=[column])
    limits = LIMITS["accuracy"] if column == "held_out_recall" else UNLIMITED
    data = _over_seeds(study, points, column, limits)
    arms = list(dict.fromkeys(data["arm"]))
    labels = {arm: re.sub(NOTE, "", study.label(arm)) for arm in arms}
    columns = 2 if max(map(len, labels.values()), default=0) <= LONG else 1
    height = 3 + 0.2 * math.ceil(len(arms) / columns)
    figure, axes = plt.subplots(1, 2, figsize=(8.5, height), layout="constrained")
    budget = data.loc[data["arm"] == study.baseline, "samples"].max()
    late = [arm for arm in arms if arm in study.arms], (0.5 * budget, budget)
    for axis, (chosen, (start, end)) in zip(axes, ((arms, (1.0, math.inf)), late), strict=True):
        part = points[points["arm"].isin(chosen) & points["samples"].between(start, end)]
        shown = [arm for arm in chosen if arm in set(part["arm"])]  # shorter runs are not in the second half
        sns.lineplot(
            part,
            x="samples",
            y=column,
            hue="arm",
            hue_order=shown,
            palette={arm: looks(study)[arm].color for arm in shown},
            errorbar=partial(_interval, limits=limits),
            err_kws={"alpha": 0.13, "lw": 0},
            legend=False,
            ax=axis,
        )
        for line, arm in zip(axis.lines, shown, strict=True):
            end_of = data[data["arm"] == arm].iloc[-1]
            line.set(linestyle=looks(study)[arm].linestyle, label=labels[arm])
            show_on_hover(line, f"{study.label(arm)}: {end_of['mean']:.4g} after {end_of['samples']:,} samples")
    axes[0].set(
        title="whole run",
        xlabel="samples seen",
        ylabel=CURVE_TITLES.get(column, column.replace("held_out_", "held-out ").replace("_", " ")),
    )
    axes[1].set(title="second half of the baseline's run, without controls", xlabel="samples seen", ylabel="")
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=columns)
    return figure, data


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
    return {
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "level": estimate.level,
        "n": estimate.n,
    }


def _by_seed(study: Study, evidence: Evidence, arm: str) -> "pd.Series[float]":
    """Return an arm minus the baseline by seed; minus the baseline's mean if they are not paired."""
    baseline, own = evidence.value(study.primary_metric, study.baseline), evidence.value(study.primary_metric, arm)
    return (own - (baseline if are_paired(arm, study.baseline) else baseline.mean())).dropna()


def _leave_room_for_arms(
    axis: Axes, study: Study, differences: Mapping[str, Estimate], seeds: Mapping[str, list[float]]
) -> None:
    """Cut the axis before a control that is far off the scale of the arms, and write the control's value there.

    Args:
        seeds: values of single seeds, by arm and control.
    """
    ends = {arm: [end for end in (one.mean, one.low, one.high) if np.isfinite(end)] for arm, one in differences.items()}
    of_arms = [end for arm, some in ends.items() if arm in study.arms for end in some]
    reach = OFF_SCALE * max(map(abs, [*of_arms, study.primary_margin]))
    cut = {arm: one for arm, one in differences.items() if arm in study.controls and abs(one.mean) > reach}
    if not cut or not of_arms:
        return
    shown = [0.0, *(end for arm, some in ends.items() if arm not in cut for end in [*some, *seeds[arm]])]
    room = 0.3 * (max(shown) - min(shown))
    axis.set_xlim(min(shown) - room, max(shown) + room)
    for row, arm in enumerate(differences):
        if arm in cut:
            is_left = cut[arm].mean < 0
            text = f"← {cut[arm].text()}" if is_left else f"{cut[arm].text()} →"
            place, align = (0.02, "left") if is_left else (0.98, "right")
            axis.text(place, row + 0.1, text, transform=axis.get_yaxis_transform(), ha=align, va="center", color=SOFT)


def _over_seeds(study: Study, points: pd.DataFrame, column: str, limits: tuple[float, float]) -> pd.DataFrame:
    """Return mean and interval over seeds for every arm and number of samples."""
    rows = []
    for arm in study.conditions:
        for samples, values in points[points["arm"] == arm].groupby("samples")[column]:
            mean = arm_mean(values, limits)
            rows.append({"arm": arm, "label": study.label(arm), "samples": samples, **estimate_row(mean)})
    return pd.DataFrame(rows)


def _interval(values: "pd.Series[float]", limits: tuple[float, float]) -> tuple[float, float]:
    estimate = arm_mean(values, limits)
    return (estimate.low, estimate.high) if estimate.has_interval else (estimate.mean, estimate.mean)
