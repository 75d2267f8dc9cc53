"""Sentences on the primary metric, and on differences in the others."""

from collections.abc import Mapping, Sequence

from ablations.study import Control, Study
from analysis.compare import Comparison, against_baseline
from analysis.intervals import POWER, Estimate, detectable_difference, simultaneous_level
from analysis.load import Evidence
from analysis.verdicts import failure_note


def conclusion(study: Study, comparisons: Mapping[str, Comparison], unit: str, failed: Sequence[Control] = ()) -> str:
    """Return the study's result in a few sentences.

    Args:
        comparisons: the requested arms but the baseline, with simultaneous 95 % intervals.
        failed: controls that failed, after which nothing is concluded.
    """
    num_seeds = [one.difference.n for one in comparisons.values() if one.difference.has_interval]
    if not num_seeds:
        return "No conclusion: no arm shares two seeds with the baseline."
    if failed:
        return f"{failure_note(failed).capitalize()}. The study can confirm neither differences nor equivalence."
    seeds = " to ".join(str(n) for n in sorted({min(num_seeds), max(num_seeds)}))
    context = f"the baseline ({study.label(study.baseline)}) in {study.primary_metric} over {seeds} seeds"
    margin = f"±{study.equivalence_margin:g} {unit}"
    effects = []
    arms: dict[str, list[str]] = {"equivalent": [], "inconclusive": [], "too few": []}
    for arm, one in comparisons.items():
        estimate, observed, label = one.difference, one.observed, study.label(arm)
        if observed.direction != "unclear":
            small = ", within the margin" * observed.is_small
            amount = f"{abs(estimate.mean):.3f} {unit} ({_bounds(estimate)}{small})"
            effects.append(f"{label} is {observed.direction} by {amount}")
        else:
            arms[observed.word if estimate.has_interval else "too few"].append(label)
    sentences = []
    if effects:
        sentences.append(f"Compared with {context}: {'; '.join(effects)}.")
    if arms["equivalent"]:
        other = "it" if effects else context
        sentences.append(f"Equivalent to {other} within {margin}: {'; '.join(arms['equivalent'])}.")
    if not sentences:
        sentences.append(
            f"Inconclusive: no arm differs detectably from {context}, but differences larger than the equivalence"
            f" margin ({margin}) are not ruled out either."
        )
    elif arms["inconclusive"]:
        sentences.append(f"Inconclusive: {'; '.join(arms['inconclusive'])}.")
    if arms["too few"]:
        sentences.append(f"Too few seeds: {'; '.join(arms['too few'])}.")
    return " ".join(sentences)


def power(study: Study, comparisons: Mapping[str, Comparison], unit: str) -> str:
    """Compare the minimum detectable difference with the margin; empty if there are too few seeds."""
    known = [one.difference for one in comparisons.values() if one.difference.has_interval]
    detectable = [detectable_difference(estimate) for estimate in known]
    if not detectable:
        return ""
    low, high = (f"{value:.2g}" for value in (min(detectable), max(detectable)))
    amount = f"{low} {unit}" if low == high else f"{low} to {high} {unit}, depending on the arm"
    if max(detectable) <= study.equivalence_margin:
        rest = f"These seeds suffice to detect differences of the equivalence margin, {study.equivalence_margin:g}."
    else:
        rest = (
            f"The equivalence margin is {study.equivalence_margin:g}, so differences larger than the margin may have"
            " been missed. More seeds would detect them."
        )
    return f"Minimum detectable difference ({100 * POWER:.0f} % power), from the observed spread: {amount}. {rest}"


def findings(study: Study, evidence: Evidence) -> list[str]:
    """Return a sentence for each detected difference in another metric, with simultaneous 95 % intervals for all."""
    arms = [arm for arm in study.arms if arm != study.baseline]
    metrics = [name for name in dict.fromkeys(evidence.metrics["metric"]) if name != study.primary_metric]
    level = simultaneous_level(len(arms) * len(metrics))
    found = []
    for metric in metrics:
        unit = evidence.unit(metric)
        for arm in arms:
            estimate = against_baseline(study, evidence, metric, arm, level)
            if estimate.excludes_zero:
                side = "above" if estimate.mean > 0 else "below"
                amount = f"{abs(estimate.mean):.3f} {unit} ({_bounds(estimate)})"
                found.append(f"{metric}: {study.label(arm)} is {side} the baseline by {amount}.")
    return found


def _bounds(estimate: Estimate) -> str:
    low, high = sorted((abs(estimate.low), abs(estimate.high)))
    return f"simultaneous 95 % interval {low:.3f} to {high:.3f}"
