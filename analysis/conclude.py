"""From intervals to sentences."""

from collections.abc import Mapping
from dataclasses import dataclass

from ablations.study import Claim, Study
from analysis.load import Evidence
from analysis.statistics import Direction, Estimate, direction, paired_difference, simultaneous_level


@dataclass(frozen=True)
class Verdict:
    """What a study says of one claim, at its scale."""

    claim: Claim
    word: str
    why: str


def conclusion(study: Study, differences: Mapping[str, Estimate], unit: str) -> str:
    """One sentence on the primary metric.

    Args:
        differences: each arm minus the baseline, with intervals that hold all at once.
    """
    baseline = study.arms[study.baseline].label
    if not differences:
        return "Nothing can be concluded: no arm has a seed in common with the baseline."
    if not all(difference.has_interval for difference in differences.values()):
        return "Nothing can be concluded: a single seed gives no interval."
    found = {arm: direction(d, lower_is_better=study.lower_is_better) for arm, d in differences.items()}
    clear = [
        f"{study.arms[arm].label} is {word} by {abs(differences[arm].mean):.3f} {unit} {_bounds(differences[arm])}"
        for arm, word in found.items()
        if word != "unclear"
    ]
    unclear = [study.arms[arm].label for arm, word in found.items() if word == "unclear"]
    n = min(difference.n for difference in differences.values())
    if not clear:
        return (
            f"No difference to the baseline ({baseline}) could be shown in {study.primary_metric} with {n} seeds:"
            " every interval contains 0."
        )
    rest = f"; for {', '.join(unclear)}, no difference could be shown" if unclear else ""
    return f"Against the baseline ({baseline}), in {study.primary_metric} over {n} seeds, {'; '.join(clear)}{rest}."


def verdicts(study: Study, differences: Mapping[str, Estimate]) -> list[Verdict]:
    """What the arms that a claim speaks of say of it."""
    found: list[Verdict] = []
    for claim in study.claims:
        directions: dict[str, Direction] = {
            arm: direction(differences[arm], lower_is_better=study.lower_is_better)
            for arm in claim.arms
            if arm in differences and differences[arm].has_interval
        }
        found.append(Verdict(claim, *_judge(study, claim, directions)))
    return found


def findings(study: Study, evidence: Evidence) -> list[str]:
    """Sentences for the differences to the baseline that stay when all metrics and arms are held to 95 % at once."""
    arms = [arm for arm in study.arms if arm != study.baseline]
    metrics = list(dict.fromkeys(evidence.metrics["metric"]))
    level = simultaneous_level(len(arms) * len(metrics))
    found = []
    for metric in metrics:
        values, unit = evidence.values(metric), evidence.unit(metric)
        for arm in arms:
            difference = paired_difference(values, arm, study.baseline, level)
            if difference is not None and difference.excludes_zero:
                side = "above" if difference.mean > 0 else "below"
                amount = f"{abs(difference.mean):.3f} {unit} {_bounds(difference)}"
                found.append(f"{metric}: {study.arms[arm].label} is {side} the baseline by {amount}")
    return found


def _judge(study: Study, claim: Claim, directions: Mapping[str, Direction]) -> tuple[str, str]:
    if len(directions) < len(claim.arms):
        return "undecided", "not every arm that the claim speaks of has two seeds in common with the baseline"
    better = [study.arms[arm].label for arm, word in directions.items() if word == "better"]
    worse = [study.arms[arm].label for arm, word in directions.items() if word == "worse"]
    if better:
        return "refuted here", f"{', '.join(better)} did better than the baseline in {study.primary_metric}"
    if claim.expected == "worse":
        if len(worse) == len(claim.arms):
            return "supported here", f"{', '.join(worse)} did worse than the baseline in {study.primary_metric}"
        return "undecided", "the interval of the difference contains 0"
    return "not refuted here", f"no arm was shown to be better than the baseline in {study.primary_metric}"


def _bounds(difference: Estimate) -> str:
    low, high = sorted((abs(difference.low), abs(difference.high)))
    return f"(95 % simultaneous interval {low:.3f} to {high:.3f})"
