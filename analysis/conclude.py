"""From intervals to sentences."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS, Claim
from ablations.expectations import Expectation, Relation, lower_is_better
from ablations.study import Control, Study
from analysis.compare import Comparison, against_baseline, are_paired, known_differences
from analysis.load import Evidence
from analysis.statistics import (
    POWER,
    Estimate,
    Found,
    detectable_difference,
    difference,
    direction,
    judge,
    simultaneous_level,
)

NULL_LEVEL = 0.99  # of the null control's interval: at 95 %, more than half of all studies would have a false alarm


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


def conclusion(
    study: Study,
    asked: Collection[str],
    comparisons: Mapping[str, Comparison],
    unit: str,
    failed: Sequence[Control] = (),
) -> str:
    """One sentence on the primary metric.

    Args:
        asked: the arms that were asked for.
        comparisons: of each of them but the baseline, held to 95 % all at once.
        failed: controls that did not come out as they must, after which nothing is concluded.
    """
    baseline = study.arms[study.baseline].label
    if study.baseline not in asked:
        return f"Nothing can be concluded: the baseline ({baseline}) is not among the arms that were asked for."
    known = {arm: d for arm, d in known_differences(comparisons).items() if d.has_interval}
    if not known:
        common = " in common with the baseline" if study.pairing == "seed" else ", or the baseline has not"
        return f"Nothing can be concluded: no arm has two seeds{common}."
    if failed:
        return f"{_undecided(failed).capitalize()}, so no difference between arms is to be trusted, nor its absence."
    decided = {arm: comparisons[arm] for arm in known}
    counts = sorted({difference.n for difference in known.values()})
    seeds = f"{' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds"
    band = f"±{study.equivalence_margin:g} {unit}"
    parts = [
        f"{study.arms[arm].label} is {one.found.direction} by {abs(known[arm].mean):.3f} {unit} {_bounds(known[arm])}"
        + ", which is less than matters" * one.found.is_small
        for arm, one in decided.items()
        if one.found.direction != "unclear"
    ]
    if equivalent := [study.arms[arm].label for arm, one in decided.items() if one.found.word == "equivalent"]:
        parts.append(f"{', '.join(equivalent)} made no difference that matters (within {band})")
    undecided = [study.arms[arm].label for arm, one in decided.items() if one.found.word == "undecided"]
    if parts:
        if undecided:
            parts.append(f"for {', '.join(undecided)}, neither a difference nor that none matters could be shown")
        sentence = f"Against the baseline ({baseline}), in {study.primary_metric} over {seeds}, {'; '.join(parts)}"
    else:
        sentence = (
            f"Undecided: in {study.primary_metric} over {seeds}, no difference to the baseline ({baseline}) could be"
            f" shown, nor that an arm makes none that matters (within {band})"
        )
    left_out = [study.arms[arm].label for arm in comparisons if arm not in decided]
    return f"{sentence}; too few seeds to decide {', '.join(left_out)}." if left_out else f"{sentence}."


def _undecided(failed: Sequence[Control]) -> str:
    names = ", ".join(name.replace("_", " ") for name in failed)
    return f"undecided: a control failed ({names})"


def power(study: Study, comparisons: Mapping[str, Comparison], unit: str) -> str:
    """A sentence on the differences that the study could have shown, for whoever reads that none was; empty where there
    are too few seeds to say."""
    detectable = [detectable_difference(one) for one in known_differences(comparisons).values() if one.has_interval]
    if not detectable:
        return ""
    low, high = (f"{value:.2g}" for value in (min(detectable), max(detectable)))
    amount = f"{low} {unit}" if low == high else f"{low} to {high} {unit}, by the arm,"
    is_enough = max(detectable) <= study.equivalence_margin
    rest = (
        "the study is large enough"
        if is_enough
        else "one that matters can have been missed, and more seeds would show it"
    )
    return (
        f"Power: with these seeds and the spread that was seen, a true difference of {amount} is shown in"
        f" {100 * POWER:.0f} % of all cases, and {study.equivalence_margin:g} would matter: {rest}."
    )


def verdicts(study: Study, evidence: Evidence, failed: Sequence[Control] = ()) -> list[Verdict]:
    """What the runs say of each claim: its expectations, held to 95 % all at once; after a failed control, nothing."""
    found = []
    for name, expectations in study.claims.items():
        word, why = _judge(study, CLAIMS[name], expectations, evidence)
        found.append(Verdict(CLAIMS[name], _undecided(failed) if failed else word, why))
    return found


def checked_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Whether the study's controls came out as they must: the null at 99 %, unpaired, the positive one at 95 %, as the
    arms are paired."""
    values = evidence.values(study.primary_metric)
    outcomes = []
    for name in study.controls:
        if name == "null_control":
            outcomes.append(_null(study, against_baseline(study, values, name, NULL_LEVEL)))
        else:
            outcomes.append(_positive(study, against_baseline(study, values, name)))
    return outcomes


def failed_controls(outcomes: Sequence[ControlOutcome]) -> list[Control]:
    return [outcome.control for outcome in outcomes if outcome.word == "failed"]


def null_note(study: Study, comparisons: Mapping[str, Comparison], evidence: Evidence) -> str:
    """What the null control can tell and what not."""
    sentences = [
        f"The null control's seeds are others than the baseline's, so the two means are compared unpaired (Welch), at"
        f" {100 * NULL_LEVEL:.0f} %: one in {1 / (1 - NULL_LEVEL):.0f} fails by chance, and with all {len(STUDIES)}"
        f" studies the chance that one or more do is up to {100 * (1 - NULL_LEVEL ** len(STUDIES)):.0f} %."
    ]
    null = against_baseline(study, evidence.values(study.primary_metric), "null_control")
    paired = sorted(one.error for one in known_differences(comparisons).values() if one.has_interval)
    if study.pairing == "seed":
        sentences.append(
            "It shows whether seeds alone pass for a difference; whether pairing by seed does what it is meant to, it"
            " cannot show."
        )
        if null is not None and null.has_interval and paired:
            sentences.append(
                f"The paired differences of arms have a standard error of {paired[0]:.2g} to {paired[-1]:.2g}, this"
                f" unpaired one {null.error:.2g}: what pairing gained, or did not."
            )
    return " ".join(sentences)


def _null(study: Study, estimate: Estimate | None) -> ControlOutcome:
    if estimate is None or not estimate.has_interval:
        return ControlOutcome("null_control", "undecided", "too few seeds")
    if estimate.excludes_zero:
        why = "other seeds alone make a difference, so those of arms are not to be trusted"
        return ControlOutcome("null_control", "failed", f"{_seen(estimate)}: {why}")
    why = "other seeds make no difference that can be shown"
    return ControlOutcome("null_control", "as it must be", f"{_seen(estimate)}: {why}")


def _positive(study: Study, estimate: Estimate | None) -> ControlOutcome:
    if estimate is None or not estimate.has_interval:
        return ControlOutcome("positive_control", "undecided", "too few seeds")
    if direction(estimate, lower_is_better=study.lower_is_better) == "worse":
        why = "captions of other images do harm, and the study sees it"
        return ControlOutcome("positive_control", "as it must be", f"{_seen(estimate)}: {why}")
    why = "the study cannot even see that captions of other images do harm; no difference between arms means nothing"
    return ControlOutcome("positive_control", "failed", f"{_seen(estimate)}: {why}")


def findings(study: Study, evidence: Evidence) -> list[str]:
    """Sentences for differences in other than the primary metric that stay when all are held to 95 % at once."""
    arms = [arm for arm in study.arms if arm != study.baseline]
    metrics = [name for name in dict.fromkeys(evidence.metrics["metric"]) if name != study.primary_metric]
    level = simultaneous_level(len(arms) * len(metrics))
    found = []
    for metric in metrics:
        values, unit = evidence.values(metric), evidence.unit(metric)
        for arm in arms:
            estimate = against_baseline(study, values, arm, level)
            if estimate is not None and estimate.excludes_zero:
                side = "above" if estimate.mean > 0 else "below"
                amount = f"{abs(estimate.mean):.3f} {unit} {_bounds(estimate)}"
                found.append(f"{metric}: {study.arms[arm].label} is {side} the baseline by {amount}")
    return found


@dataclass(frozen=True)
class _Outcome:
    """What became of an expectation: ``supported``, ``refuted`` or ``undecided``, whether that rests on a difference
    smaller than matters, and the sentence that says why."""

    word: str
    is_small: bool
    why: str


def _judge(study: Study, claim: Claim, expectations: tuple[Expectation, ...], evidence: Evidence) -> tuple[str, str]:
    level = simultaneous_level(len(expectations))
    outcomes = [_meet(study, expectation, evidence, level) for expectation in expectations]
    refuting = [outcome for outcome in outcomes if outcome.word == "refuted"]
    if len(refuting) == len(outcomes) or (refuting and claim.refuted_by == "any"):
        word, deciding = "refuted here", refuting
    elif all(outcome.word == "supported" for outcome in outcomes):
        word, deciding = "supported here", outcomes
    else:
        word, deciding = "undecided", outcomes
    is_small = word != "undecided" and all(outcome.is_small for outcome in deciding)
    return word + ", by less than matters" * is_small, "; ".join(outcome.why for outcome in deciding)


def _meet(study: Study, expected: Expectation, evidence: Evidence, level: float) -> _Outcome:
    pair = pd.DataFrame(
        {
            "one": evidence.values(expected.metric).get(expected.arm, pd.Series(dtype=float)),
            "other": evidence.values(expected.than_metric).get(expected.than_arm, pd.Series(dtype=float)),
        }
    )
    is_paired = are_paired(study, expected.arm, expected.than_arm)
    estimate = difference(pair, "one", "other", is_paired=is_paired, level=level)
    compared = _compared(study, expected)
    if estimate is None or not estimate.has_interval:
        return _Outcome("undecided", False, f"{compared}: too few seeds")
    found = judge(estimate, study.margin(expected.metric), lower_is_better=lower_is_better(expected.metric))
    word = _held_to(expected.relation, found)
    # A small difference refutes "far worse" by being small; anywhere else a verdict that rests on one says so.
    rests_on_difference = expected.relation in ("better", "worse") or (
        word == "refuted" and expected.relation != "far worse"
    )
    is_small = rests_on_difference and found.direction != "unclear" and found.is_small
    return _Outcome(word, is_small, f"{compared}: {_seen(estimate)}, {_shown(found)}")


def _held_to(relation: Relation, found: Found) -> str:
    """What a finding makes of an expectation, as ``Expectation.relation`` has it."""
    if relation in ("better", "worse"):
        if found.direction == "unclear":
            return "refuted" if found.is_small else "undecided"
        return "supported" if found.direction == relation else "refuted"
    if relation == "far worse":
        if found.direction == "better" or found.is_small:
            return "refuted"
        return "supported" if found.direction == "worse" and found.is_large else "undecided"
    excluded = {"not better": ("better",), "not worse": ("worse",), "equal": ("better", "worse")}[relation]
    if found.direction in excluded:
        return "refuted"
    shown = {"not better": found.is_not_better, "not worse": found.is_not_worse, "equal": found.is_small}[relation]
    return "supported" if shown else "undecided"


def _shown(found: Found) -> str:
    """A finding in words; where nothing is clear on both sides, what is on one."""
    if found.word == "undecided" and found.is_not_better != found.is_not_worse:
        return f"undecided, but not {'better' if found.is_not_better else 'worse'} by as much as matters"
    return found.word


def _compared(study: Study, expected: Expectation) -> str:
    one, other = study.label(expected.arm), study.label(expected.than_arm)
    if expected.metric == expected.than_metric:
        return f"{expected.metric}, {one} minus {other}"
    if one == other:
        return f"{one}, {expected.metric} minus {expected.than_metric}"
    return f"{one} in {expected.metric} minus {other} in {expected.than_metric}"


def _seen(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _bounds(estimate: Estimate) -> str:
    low, high = sorted((abs(estimate.low), abs(estimate.high)))
    return f"(95 % simultaneous interval {low:.3f} to {high:.3f})"
