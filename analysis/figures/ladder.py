"""What a sensitivity study found, in figures: known effects in units of noise."""

import math
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from seaborn.utils import relative_luminance

from ablations.catalogue import STUDIES
from aimv2.spec.metrics import set_name
from analysis.document.style import COLOURS, INK, MARKERS, SOFT, WHITE, show_on_hover
from analysis.inference.intervals import Estimate, detectable_difference
from analysis.judgement.sensitivity import Ladder, harm, sensitivity_of

BLACK = "#111111"  # on light cells, in the dark too
MIDDLE = 0.18  # the luminance at which black and white have the same contrast


def draw_ladder(ladder: Ladder) -> tuple[Figure, pd.DataFrame]:
    """Draw the effects on the metrics that decide claims, in units of noise; right is worse.

    Between the dashed lines a difference of two arms is missed more often than once in five, with the ladder's seeds.
    """
    used = dict.fromkeys(metric for study in STUDIES.values() for metric in study.deciding_metrics)
    used |= dict.fromkeys(f"probe_{set_name(name)}" for name in ladder.base.get("evaluation.sets", []))
    data = _effects(ladder)
    data = data[data["metric"].isin(list(used))].reset_index(drop=True)
    metrics = [metric for metric in used if metric in set(data["metric"])]
    figure, axis = plt.subplots(figsize=(7.5, 0.36 * len(metrics) + 1.9), layout="constrained")
    handles = []
    for number, (rung, label) in enumerate(ladder.rungs.items()):
        options: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number], "ms": 6}
        handles.append(Line2D([], [], ls="", label=label, **options))
        for _, effect in data[data["rung"] == rung].iterrows():
            row = metrics.index(effect["metric"])
            (point,) = axis.plot(effect["worse"], row, ls="", alpha=0.85, **options)
            show_on_hover(point, f"{effect['metric']}, {label}: {effect['worse']:+.2g} x noise")
    if len(data):
        n = int(data["n"].max())
        detected = detectable_difference(Estimate(0.0, 1 / math.sqrt(n), n - 1, n))
        for side in (-detected, detected):
            axis.axvline(side, color=SOFT, lw=1, ls="--")
    axis.axvline(0, color=INK, lw=0.8)
    axis.set_xscale("symlog", linthresh=1)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -2) * 1.5, max(high, 2) * 1.5)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(metrics)), metrics)
    axis.set_ylim(max(1, len(metrics)) - 0.5, -0.5)
    axis.set_xlabel("effect in units of noise (SD of paired differences), right is worse")
    axis.grid(visible=False, axis="y")
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure, data


def sensitivity_map(ladder: Ladder) -> tuple[Figure, pd.DataFrame]:
    """Draw every known effect on every metric as a cell, in units of noise.

    Orange cells are worse than the base, purple ones better. Numbers in brackets are effects whose 95 % interval
    includes zero. Metrics that decide no claim at this scale have grey names.
    """
    data = _effects(ladder)
    values = data.pivot(index="metric", columns="rung", values="worse")
    values = values.reindex(index=list(dict.fromkeys(data["metric"])), columns=list(ladder.rungs))
    shades_MR = np.sign(values.to_numpy()) * np.log1p(np.abs(values.to_numpy(dtype=float)))
    largest = float(np.nanmax(np.abs(shades_MR), initial=1.0))
    numbers = data.assign(text=data.apply(_number, axis=1)).pivot(index="metric", columns="rung", values="text")
    numbers = numbers.reindex(index=values.index, columns=values.columns).fillna("")
    figure, axis = plt.subplots(figsize=(2.2 + 0.62 * values.shape[1], 0.21 * len(values) + 1.9), layout="constrained")
    if len(values):
        limits = {"vmin": -largest, "vmax": largest}
        annotations = {"annot": numbers, "fmt": "", "annot_kws": {"fontsize": 7}}
        sns.heatmap(shades_MR, cmap="PuOr_r", cbar=False, rasterized=True, ax=axis, **limits, **annotations)
    for text in axis.texts:  # black or white, by the contrast of WCAG, in colours that pages leave alone
        column, row = (int(place) for place in text.get_position())
        shade = axis.collections[0].to_rgba(shades_MR[row, column])
        text.set_color(BLACK if relative_luminance(shade) > MIDDLE else WHITE)
    decides = data.drop_duplicates("metric").set_index("metric")["decides_claims"]
    axis.set_yticks(np.arange(len(values)) + 0.5, values.index, fontsize=8, rotation=0)
    for label, metric in zip(axis.get_yticklabels(), values.index, strict=True):
        label.set_color(INK if decides[metric] else SOFT)
    labels = [ladder.rungs[rung].partition(" (")[0] for rung in values.columns]
    axis.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=35, ha="left", rotation_mode="anchor", fontsize=8)
    axis.xaxis.tick_top()
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.set_ylabel("")
    axis.set_xlabel("effect in units of noise: orange is worse, purple is better; (n): the interval includes 0")
    return figure, data


def _number(effect: "pd.Series[Any]") -> str:
    number = f"{effect['worse']:.0f}" if abs(effect["worse"]) >= 10 else f"{effect['worse']:z.1f}"
    return number if effect["is_detected"] else f"({number})"


def _effects(ladder: Ladder) -> pd.DataFrame:
    """Return a row per metric and rung; ``worse`` is the effect in units of noise, positive if it harms."""
    judged = sensitivity_of(ladder)
    rows = []
    for metric, seen in ladder.metrics.items():
        for rung, effect in seen.effects.items():
            worse = harm(metric, effect)
            rows.append(
                {
                    "metric": metric,
                    "unit": seen.unit,
                    "rung": rung,
                    "label": ladder.rungs[rung],
                    "worse": worse.mean / seen.paired_sd,
                    "low": worse.low / seen.paired_sd,
                    "high": worse.high / seen.paired_sd,
                    "n": effect.num_seeds,
                    "is_detected": worse.low > 0 or worse.high < 0,
                    "decides_claims": judged[metric].tells_small_steps,
                }
            )
    columns = ["metric", "unit", "rung", "label", "worse", "low", "high", "n", "is_detected", "decides_claims"]
    return pd.DataFrame(rows, columns=columns)
