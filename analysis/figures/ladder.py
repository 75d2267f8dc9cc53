"""What a sensitivity study found, in figures: known effects in units of noise."""

import math
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import SymmetricalLogLocator

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.ladder import Ladder, harm
from aimv2.analysis.document.style import COLOURS, INK, MARKERS, SOFT, show_on_hover
from aimv2.analysis.inference.intervals import Estimate, detectable_difference
from aimv2.analysis.judgement.sensitivity import sensitivity_of
from aimv2.spec.metrics import set_name


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
    rungs = set(data["rung"])
    measured = {rung: label for rung, label in ladder.rungs.items() if rung in rungs}
    for number, (rung, label) in enumerate(measured.items()):
        options: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number // len(COLOURS) + number % len(COLOURS)],
            "ms": 6,
        }
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
    axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[1, 2, 5]))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(metrics)), metrics)
    axis.set_ylim(max(1, len(metrics)) - 0.5, -0.5)
    axis.set_xlabel("effect in units of noise (SD of paired differences), right is worse; logarithmic beyond 1")
    axis.grid(visible=False, axis="y")
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure, data


def _effects(ladder: Ladder) -> pd.DataFrame:
    """Return a row per metric and rung; ``worse`` is the effect in units of noise, positive if it harms."""
    judged = sensitivity_of(ladder)
    rows = []
    for metric, seen in ladder.metrics.items():
        for rung, effect in seen.effects.items():
            worse = harm(metric, effect)
            sizes = [size / seen.paired_sd for size in (worse.mean, worse.low, worse.high)]
            is_detected = worse.low > 0 or worse.high < 0
            named = (metric, seen.unit, rung, ladder.rungs[rung])
            rows.append((*named, *sizes, effect.num_seeds, is_detected, not judged[metric].is_blind))
    columns = ["metric", "unit", "rung", "label", "worse", "low", "high", "n", "is_detected", "decides_claims"]
    return pd.DataFrame(rows, columns=columns)
