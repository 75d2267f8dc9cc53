"""The ladder of a sensitivity study: noise, sizes of known effects, and seeds that a difference takes."""

import math

from aimv2.spec.metrics import unit_of

from ablations.expectations import STEP_TIME
from ablations.study import UNTRAINED, Study
from aimv2.config.run_config import RunConfig
from analysis.evidence.load import Evidence
from analysis.judgement.compare import Differences, reasons_to_withhold
from analysis.judgement.sensitivity import Effect, Ladder, Seen, base_of


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
        noise, effects, items = _paired_sd(study, evidence, metric), {}, []
        for rung in rungs:
            if not noise or reasons_to_withhold(study, evidence, [rung, study.baseline]):
                continue  # equal values are no certainty
            estimate = differences.separately(metric, rung, covers_items=True)
            if estimate.covers == "seeds and items":
                items.append(estimate.items_error)
            if estimate.has_interval:
                effects[rung] = Effect(mean=estimate.mean, low=estimate.low, high=estimate.high, num_seeds=estimate.n)
        metrics[metric] = Seen(
            unit=unit_of(metric),
            seed_sd=float(values[study.baseline].std()),
            paired_sd=noise,
            effects=effects,
            items_error=math.hypot(*items) / math.sqrt(len(items)) if items else None,
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
