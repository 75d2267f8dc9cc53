"""The figures of a report, as SVG."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.study import UNTRAINED, Study
from analysis.inference.intervals import LEVEL, Estimate, mean_interval
from analysis.judgement.compare import Differences, are_paired
from analysis.judgement.controls import NULL_LEVEL
from analysis.load import Evidence

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aimv2",
    "font.family": "sans-serif",
    "axes.titlelocation": "left",
}

OFF_SCALE = 3  # times the largest end of the arms' intervals, beyond which a control is cut off
NUM_DISTINCT = 10  # colours of the "colorblind" palette before they repeat

CURVE_TITLES = {
    "held_out_caption_loss": "held-out caption loss [nats/token]",
    "held_out_pixel_loss": "held-out pixel loss, half the image as prefix",
    "held_out_recall": "held-out recall of captions",
}


def draw_all(study: Study, evidence: Evidence, differences: Mapping[str, Estimate], folder: Path) -> list[str]:
    """Draw the figures for which there is evidence, and return their names."""
    figures = {}
    with style():
        if evidence.curve:
            figures["learning_curves"] = learning_curves(study, evidence)
        if differences:
            figures["differences"] = differences_to_baseline(study, evidence, differences)
        if names := _metrics(evidence, "pixel_loss_"):
            figures["pixel_loss"] = pixel_loss_bars(study, evidence, names)
        if _metrics(evidence, "probe_"):
            figures["accuracy"] = accuracies(study, evidence)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save(figure, folder / f"{name}.svg")
    return list(figures)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, the same bytes every time."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def palette(study: Study) -> dict[str, tuple[float, float, float]]:
    """Return a colour per arm, the same in every figure. The baseline is black, controls are grey."""
    others = [arm for arm in study.arms if arm != study.baseline]
    name = "colorblind" if len(others) <= NUM_DISTINCT else "husl"
    return {
        study.baseline: (0.1, 0.1, 0.1),
        **{control: (grey, grey, grey) for control, grey in zip(study.controls, (0.7, 0.45), strict=False)},
        **dict(zip(others, sns.color_palette(name, len(others)), strict=True)),
    }


def learning_curves(study: Study, evidence: Evidence) -> Figure:
    """Draw a held-out value over samples: whole runs, and the second half of the baseline's run without the controls.

    Lines are means over seeds with 95 % intervals. Arms without the value are left out.
    """
    column, curves = evidence.curve, evidence.curves
    points = curves[curves["arm"].isin(study.conditions)].dropna(subset=[column])
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    budget = points.loc[points["arm"] == study.baseline, "samples"].max()
    for axis, start, title in zip(axes, (0, 0.5), ("whole run", "second half of the baseline's run"), strict=True):
        shown = points if start == 0 else points[points["arm"].isin(list(study.arms))]
        sns.lineplot(
            shown if start == 0 else shown[shown["samples"].between(start * budget, budget)],
            x="samples",
            y=column,
            err_kws={"alpha": 0.12, "linewidth": 0},
            ax=axis,
            legend=start == 0,
            **_by_arm(study, points),
        )
        axis.set(title=title, xlabel="samples seen", ylabel=CURVE_TITLES[column] if start == 0 else "")
    handles, names = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    figure.legend(handles, [study.label(name) for name in names], loc="outside lower center", ncols=3, frameon=False)
    return figure


def differences_to_baseline(study: Study, evidence: Evidence, differences: Mapping[str, Estimate]) -> Figure:
    """Draw each arm and control minus the baseline in the primary metric, with the equivalence margin in grey.

    Dots are seeds (minus the baseline's mean if unpaired), bars simultaneous intervals. Each control has an interval of
    its own; one that would leave the arms no room is cut off, with its value in words.
    """
    metric, margin = study.primary_metric, study.equivalence_margin
    values, controls = evidence.values(metric), Differences(study, evidence)
    levels = {"null_control": NULL_LEVEL, "positive_control": LEVEL}
    alone = {arm: controls.separately(metric, arm, levels[arm], covers_items=True) for arm in study.controls}
    differences = {**differences, **{arm: estimate for arm, estimate in alone.items() if estimate.n}}
    figure, axis = plt.subplots(figsize=(7.5, 0.6 * len(differences) + 1.4), layout="constrained")
    colours, baseline = palette(study), values[study.baseline]
    for row, (arm, difference) in enumerate(differences.items()):
        seeds = values[arm] - (baseline if are_paired(arm, study.baseline) else baseline.mean())
        axis.plot(seeds, np.full(len(seeds), row + 0.16), "o", ms=4, alpha=0.5, color=colours[arm], mew=0)
        axis.errorbar(difference.mean, row, xerr=difference.half_width, fmt="D", color=colours[arm], elinewidth=2.5)
    axis.axvline(0, color="0.3", lw=1)
    axis.axvspan(-margin, margin, color="0.5", alpha=0.12, lw=0)
    axis.set_yticks(range(len(differences)), [study.label(arm) for arm in differences])
    axis.set_ylim(len(differences) - 0.5, -0.5)
    _leave_room_for_arms(axis, study, differences)
    better = "left" if study.lower_is_better else "right"
    axis.set(xlabel=f"{metric} minus baseline [{evidence.unit(metric)}], {better} is better")
    axis.grid(False, axis="y")
    return figure


def _leave_room_for_arms(axis: Axes, study: Study, differences: Mapping[str, Estimate]) -> None:
    """Cut the axis before a control that is far off the scale of the arms, and write the control's value there."""
    ends = {arm: [end for end in (one.mean, one.low, one.high) if np.isfinite(end)] for arm, one in differences.items()}
    of_arms = [end for arm, some in ends.items() if arm in study.arms for end in some]
    reach = OFF_SCALE * max(map(abs, [*of_arms, study.equivalence_margin]))
    cut = {arm: one for arm, one in differences.items() if arm in study.controls and abs(one.mean) > reach}
    if not cut or not of_arms:
        return
    shown = [0.0, *(end for arm, some in ends.items() if arm not in cut for end in some)]
    room = 0.3 * (max(shown) - min(shown))
    axis.set_xlim(min(shown) - room, max(shown) + room)
    for row, arm in enumerate(differences):
        if arm in cut:
            text, place, align = f"{cut[arm].text()} →", 0.98, "right"
            if cut[arm].mean < 0:
                text, place, align = f"← {cut[arm].text()}", 0.02, "left"
            options: dict[str, Any] = {"ha": align, "va": "center", "color": "0.3"}
            axis.text(place, row, text, transform=axis.get_yaxis_transform(), **options)


def pixel_loss_bars(study: Study, evidence: Evidence, names: list[str]) -> Figure:
    """Draw the pixel losses of every arm at the same fixed prefixes."""
    table = evidence.metrics
    chosen = table[table["metric"].isin(names) & table["arm"].isin(study.conditions)]
    figure, axis = plt.subplots(figsize=(8.5, 4), layout="constrained")
    sns.pointplot(
        chosen.assign(prefix=chosen["metric"].str.removeprefix("pixel_loss_")),
        x="prefix",
        y="value",
        dodge=0.4 if chosen["arm"].nunique() > 1 else False,
        linestyle="none",
        marker="D",
        markersize=5,
        capsize=0.04,
        err_kws={"linewidth": 1.5},
        ax=axis,
        **_by_arm(study, chosen),
    )
    axis.set(
        xlabel="prefix length [fraction of the image]", ylabel="pixel loss\n[squared error of standardised pixels]"
    )
    _label_arms(axis, study, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def accuracies(study: Study, evidence: Evidence) -> Figure:
    """Draw attentive-probe and kNN accuracy, with the untrained encoder as a line."""
    names = _metrics(evidence, "probe_") + _metrics(evidence, "knn_")
    tasks = list(dict.fromkeys(name.partition("_")[2] for name in names))
    figure, axes = plt.subplots(
        2, len(tasks), figsize=(3.6 * len(tasks), 5.4), layout="constrained", squeeze=False, sharex=True
    )
    colours = palette(study)
    for row, (kind, title) in zip(axes, (("probe", "attentive probe"), ("knn", "kNN")), strict=True):
        for axis, task in zip(row, tasks, strict=True):
            values = evidence.values(f"{kind}_{task}")
            arms = _present(study, values.columns)
            for place, arm in enumerate(arms):
                estimate = mean_interval(values[arm])
                axis.plot(np.full(len(values), place), values[arm], "o", ms=4, alpha=0.4, color=colours[arm], mew=0)
                axis.errorbar(place, estimate.mean, estimate.half_width, fmt="D", ms=5, color=colours[arm])
            if UNTRAINED in values:
                axis.axhline(values[UNTRAINED].mean(), color="0.4", ls="--", lw=1.2, label="untrained")
            axis.set_title(f"{title}, {task.replace('_', ' ')}", fontsize="medium")
            axis.set_xticks(range(len(arms)), arms, rotation=30, ha="right")
            axis.set_xlim(-0.5, max(len(arms), 1) - 0.5)  # no arm, if every trained run failed
            axis.margins(y=0.1)
            axis.grid(False, axis="x")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy")
    if handles := axes[0, 0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="outside upper right", frameon=False)
    return figure


def _by_arm(study: Study, table: pd.DataFrame) -> dict[str, Any]:
    """Return seaborn's options for a colour per arm and Student's intervals over seeds."""
    return {"hue": "arm", "hue_order": _present(study, table["arm"]), "palette": palette(study), "errorbar": _interval}


def _interval(values: pd.Series) -> tuple[float, float]:
    estimate = mean_interval(values)
    return (estimate.low, estimate.high) if estimate.has_interval else (estimate.mean, estimate.mean)


def _metrics(evidence: Evidence, prefix: str) -> list[str]:
    return [name for name in dict.fromkeys(evidence.metrics["metric"]) if name.startswith(prefix)]


def _present(study: Study, arms: "pd.Series[str] | pd.Index[str]") -> list[str]:
    return [arm for arm in study.conditions if arm in set(arms)]


def _label_arms(axis: Axes, study: Study, **options: Any) -> None:
    handles, names = axis.get_legend_handles_labels()
    axis.legend(handles, [study.label(name) for name in names], title=None, **options)


@contextmanager
def style() -> Iterator[None]:
    """Apply the look of all figures."""
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9), plt.rc_context(STYLE):
        yield
