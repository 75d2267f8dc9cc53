"""The ladder of a sensitivity study: noise, sizes of known effects, and seeds that a difference takes."""

import math

import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.catalogue import STUDIES
from ablations.expectations import STEP_TIME
from ablations.study import UNTRAINED, Study
from aimv2.config.run_config import RunConfig
from aimv2.evaluation.metrics import set_name, unit_of
from analysis.inference.intervals import Estimate, detectable_difference
from analysis.judgement.compare import Differences, reasons_to_withhold
from analysis.judgement.sensitivity import Effect, Ladder, Seen, base_of, harm
from analysis.load import Evidence


def climb(study: Study, evidence: Evidence, config: RunConfig) -> Ladder:
    """Measure every rung in every metric that the base has with two seeds or more.

    Args:
        config: the baseline's run.
    """
    names = [arm for arm in (*study.arms, "positive_control", UNTRAINED) if arm != study.baseline]
    rungs = {name: study.label(name) for name in names}
    differences = Differences(study, evidence)
    metrics = {}
    for metric in [*dict.fromkeys(evidence.metrics["metric"]), STEP_TIME]:
        values = evidence.values(metric)
        if study.baseline not in values or values[study.baseline].count() < 2:
            continue
        noise, effects = _paired_sd(study, evidence, metric), {}
        for rung in rungs:
            if not noise or reasons_to_withhold(study, evidence, [rung, study.baseline]):
                continue  # equal values are no certainty
            estimate = differences.separately(metric, rung, covers_items=True)
            if estimate.has_interval:
                effects[rung] = Effect(mean=estimate.mean, low=estimate.low, high=estimate.high, num_seeds=estimate.n)
        metrics[metric] = Seen(
            unit=unit_of(metric),
            seed_sd=float(values[study.baseline].std()),
            paired_sd=noise,
            effects=effects,
        )
    return Ladder(base=base_of(config), rungs=rungs, metrics=metrics)


def _paired_sd(study: Study, evidence: Evidence, metric: str) -> float:
    """Return the standard deviation of arm minus baseline over seeds, pooled over the trained arms."""
    values = evidence.values(metric)
    others = [arm for arm in study.arms if arm != study.baseline and arm in values]
    paired = values[others].sub(values[study.baseline], axis=0)
    counts, variances = paired.count(), paired.var()
    weights = (counts - 1).clip(lower=0)
    return math.sqrt(float((variances.fillna(0) * weights).sum() / weights.sum())) if weights.sum() else 0.0


def draw_ladder(ladder: Ladder) -> Figure:
    """Draw the effects on the metrics that decide claims, in units of noise; right is worse.

    Between the grey lines a difference of two arms is missed more often than once in five, with the ladder's seeds.
    """
    used = dict.fromkeys(metric for study in STUDIES.values() for metric in study.deciding_metrics)
    used |= dict.fromkeys(f"probe_{set_name(name)}" for name in ladder.base.get("evaluation.sets", []))
    metrics = [metric for metric in used if metric in ladder.metrics and ladder.metrics[metric].paired_sd]
    figure, axis = plt.subplots(figsize=(9, 0.5 * len(metrics) + 2.2), layout="constrained")
    colours = dict(zip(ladder.rungs, sns.color_palette("husl", len(ladder.rungs)), strict=True))
    for row, metric in enumerate(metrics):
        seen = ladder.metrics[metric]
        for rung, effect in seen.effects.items():
            worse = harm(metric, effect).mean / seen.paired_sd
            axis.plot(worse, row, "D", ms=6, alpha=0.8, color=colours[rung], mew=0)
    counts = [effect.num_seeds for seen in ladder.metrics.values() for effect in seen.effects.values()]
    if counts:
        n = max(counts)
        detected = detectable_difference(Estimate(0.0, 1 / math.sqrt(n), n - 1, n))
        for side in (-detected, detected):
            axis.axvline(side, color="0.6", lw=1, ls="--")
    axis.axvline(0, color="0.3", lw=1)
    axis.set_xscale("symlog", linthresh=1)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -2) * 1.5, max(high, 2) * 1.5)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(metrics)), metrics)
    axis.set_ylim(len(metrics) - 0.5, -0.5)
    axis.set(xlabel="effect in units of noise (SD of paired differences), right is worse")
    axis.grid(False, axis="y")
    handles = [Line2D([], [], marker="D", ls="", color=colours[rung], label=ladder.rungs[rung]) for rung in colours]
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=3)
    return figure
