"""From intervals to sentences."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from ablations.claims import CLAIMS, Claim
from ablations.study import Control, Expectation, Study
from aimv2.record import lower_is_better
from analysis.load import Evidence
from analysis.statistics import Estimate, direction, paired_difference, simultaneous_level


@dataclass(frozen=True)
class Verdict:
    """What a study says of one claim, at its scale."""

    claim: Claim
    word: str
    why: str


@dataclass(frozen=True)
class ControlOutcome:
    """What became of a control: ``as it must be``, ``failed`` or ``undecided``, and why."""

    control: Control
    word: str
    why: str


def conclusion(study: Study, asked: Collection[str], differences: Mapping[str, Estimate | None], unit: str) -> str:
    """One sentence on the primary metric.

    Args:
        asked: the arms that were asked for.
        differences: each arm that was asked for, minus the baseline, with intervals that hold all at once; None or
            an estimate without an interval where there are too few seeds.
    """
    baseline = study.arms[study.baseline].label
    if study.baseline not in asked:
        return f"Nothing can be concluded: the baseline ({baseline}) is not among the arms that were asked for."
    decided = {arm: d for arm, d in differences.items() if d is not None and d.has_interval}
    if not decided:
        return "Nothing can be concluded: no arm has two seeds in common with the baseline."
    words = {arm: direction(d, lower_is_better=study.lower_is_better) for arm, d in decided.items()}
    clear = [
        f"{study.arms[arm].label} is {word} by {abs(decided[arm].mean):.3f} {unit} {_bounds(decided[arm])}"
        for arm, word in words.items()
        if word != "unclear"
    ]
    counts = sorted({difference.n for difference in decided.values()})
    seeds = f"{' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds"
    if clear:
        unclear = [study.arms[arm].label for arm, word in words.items() if word == "unclear"]
        rest = f"; for {', '.join(unclear)}, no difference could be shown" if unclear else ""
        sentence = (
            f"Against the baseline ({baseline}), in {study.primary_metric} over {seeds}, {'; '.join(clear)}{rest}"
        )
    else:
        sentence = (
            f"No difference to the baseline ({baseline}) could be shown in {study.primary_metric} over {seeds}:"
            " every interval contains 0"
        )
    left_out = [study.arms[arm].label for arm in differences if arm not in decided]
    return f"{sentence}; too few seeds to decide {', '.join(left_out)}." if left_out else f"{sentence}."


def verdicts(study: Study, evidence: Evidence) -> list[Verdict]:
    """What the runs say of each claim: its expectations, held to 95 % all at once."""
    return [
        Verdict(CLAIMS[name], *_judge(study, expectations, evidence)) for name, expectations in study.claims.items()
    ]


def checked_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Whether the study's controls came out as they must, each at 95 %."""
    values = evidence.values(study.primary_metric)
    return [_control(study, name, paired_difference(values, name, study.baseline)) for name in study.controls]


def _control(study: Study, name: Control, difference: Estimate | None) -> ControlOutcome:
    if difference is None or not difference.has_interval:
        return ControlOutcome(name, "undecided", "too few seeds")
    found = direction(difference, lower_is_better=study.lower_is_better)
    seen = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if name == "null_control":
        return (
            ControlOutcome(name, "as it must be", f"{seen}: other seeds make no difference that can be shown")
            if found == "unclear"
            else ControlOutcome(
                name, "failed", f"{seen}: other seeds alone make a difference, so those of arms are not to be trusted"
            )
        )
    if found == "worse":
        return ControlOutcome(name, "as it must be", f"{seen}: captions of other images do harm, and the study sees it")
    return ControlOutcome(
        name,
        "failed",
        f"{seen}: the study cannot even see that captions of other images do harm; no difference between"
        " arms means nothing",
    )


def findings(study: Study, evidence: Evidence) -> list[str]:
    """Sentences for differences in other than the primary metric that stay when all are held to 95 % at once."""
    arms = [arm for arm in study.arms if arm != study.baseline]
    metrics = [name for name in dict.fromkeys(evidence.metrics["metric"]) if name != study.primary_metric]
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


def _judge(study: Study, expectations: tuple[Expectation, ...], evidence: Evidence) -> tuple[str, str]:
    level = simultaneous_level(len(expectations))
    outcomes = [_meet(study, expectation, evidence, level) for expectation in expectations]
    words = [word for word, _ in outcomes]
    why = "; ".join(sentence for _, sentence in outcomes)
    if "refuted" in words:
        return "refuted here", "; ".join(sentence for word, sentence in outcomes if word == "refuted")
    if "undecided" in words:
        return "undecided", why
    return ("supported here" if "supported" in words else "not refuted here"), why


def _meet(study: Study, expected: Expectation, evidence: Evidence, level: float) -> tuple[str, str]:
    """Whether one expectation is supported, refuted, not refuted or undecided, and the sentence that says why."""
    pair = pd.DataFrame(
        {
            "one": evidence.values(expected.metric).get(expected.arm, pd.Series(dtype=float)),
            "other": evidence.values(expected.than_metric).get(expected.than_arm, pd.Series(dtype=float)),
        }
    )
    difference = paired_difference(pair, "one", "other", level)
    compared = _compared(study, expected)
    if difference is None or not difference.has_interval:
        return "undecided", f"{compared}: too few seeds"
    found = direction(difference, lower_is_better=lower_is_better(expected.metric))
    said = "no difference shown" if found == "unclear" else found
    sentence = f"{compared}: {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}], {said}"
    if expected.relation.startswith("not "):
        return ("refuted" if found == expected.relation.removeprefix("not ") else "not refuted"), sentence
    if found == "unclear":
        return "undecided", sentence
    return ("supported" if found == expected.relation else "refuted"), sentence


def _compared(study: Study, expected: Expectation) -> str:
    one, other = study.arms[expected.arm].label, study.arms[expected.than_arm].label
    if expected.metric == expected.than_metric:
        return f"{expected.metric}, {one} minus {other}"
    if one == other:
        return f"{one}, {expected.metric} minus {expected.than_metric}"
    return f"{one} in {expected.metric} minus {other} in {expected.than_metric}"


def _bounds(difference: Estimate) -> str:
    low, high = sorted((abs(difference.low), abs(difference.high)))
    return f"(95 % simultaneous interval {low:.3f} to {high:.3f})"
