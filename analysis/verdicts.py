"""Verdicts on the paper's claims, from the expectations that a study wrote for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ablations.claims import CLAIMS
from ablations.expectations import Expectation, Relation
from ablations.study import Control, Study
from aimv2.evaluation.metrics import lower_is_better
from analysis.compare import are_paired
from analysis.intervals import Finding, difference, judge, simultaneous_level
from analysis.load import Evidence

WITHIN_MARGIN = " (difference within the margin)"


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a study about a claim, at its scale.

    Attributes:
        word: *supported*, *refuted* or *inconclusive*, with a qualification if one is needed.
        evidence: the comparisons that decide, in words.
    """

    word: str
    evidence: list[str]


def verdicts(study: Study, evidence: Evidence, failed: Sequence[Control] = ()) -> dict[str, Verdict]:
    """Return a verdict on each claim, with simultaneous 95 % intervals for the claim's comparisons.

    Args:
        failed: controls that failed, after which every verdict is inconclusive.
    """
    return {claim: _verdict(study, claim, evidence, failed) for claim in study.claims}


def failure_note(failed: Sequence[Control]) -> str:
    """Say that nothing can be concluded because controls failed."""
    return f"inconclusive: {' and '.join(name.replace('_', ' ') for name in failed)} failed"


class _Outcome(NamedTuple):
    """The result of an expectation, whether a difference within the margin decides it, and the comparison in words."""

    word: str
    is_small: bool
    comparison: str


def _verdict(study: Study, claim: str, evidence: Evidence, failed: Sequence[Control]) -> Verdict:
    expectations = study.claims[claim]
    level = simultaneous_level(len(expectations))
    outcomes = [_outcome(study, expectation, evidence, level) for expectation in expectations]
    refuting = [outcome for outcome in outcomes if outcome.word == "refuted"]
    if len(refuting) == len(outcomes) or (refuting and CLAIMS[claim].refuted_by == "any"):
        word, deciding = "refuted", refuting
    elif all(outcome.word == "supported" for outcome in outcomes):
        word, deciding = "supported", outcomes
    else:
        word, deciding = "inconclusive", outcomes
    if failed:
        word = failure_note(failed)
    elif word != "inconclusive" and all(outcome.is_small for outcome in deciding):
        word += WITHIN_MARGIN
    return Verdict(word, [outcome.comparison for outcome in deciding])


def _outcome(study: Study, expected: Expectation, evidence: Evidence, level: float) -> _Outcome:
    one = evidence.value(expected.metric, expected.arm)
    other = evidence.value(expected.than_metric, expected.than_arm)
    estimate = difference(one, other, is_paired=are_paired(expected.arm, expected.than_arm), level=level)
    compared = _compared(study, expected)
    if not estimate.has_interval:
        reason = "not measured" if one.empty or other.empty else "too few seeds"
        return _Outcome("inconclusive", False, f"{compared}: {reason}")
    found = judge(estimate, study.margin(expected.metric), lower_is_better=lower_is_better(expected.metric))
    relation, word = expected.relation, _held_to(expected.relation, found)
    # A small difference refutes "far worse" by being small; any other verdict that rests on one says so.
    rests_on_difference = relation in ("better", "worse") or (word == "refuted" and relation != "far worse")
    is_small = rests_on_difference and found.direction != "unclear" and found.is_small
    return _Outcome(word, is_small, f"{compared}: {estimate.text()}, {_in_words(found)}")


def _held_to(relation: Relation, found: Finding) -> str:
    """Compare a finding with an expectation, as ``Expectation.relation`` defines it."""
    is_better, is_worse = found.direction == "better", found.direction == "worse"
    is_supported, is_refuted = {
        "better": (is_better, is_worse or found.is_small),
        "worse": (is_worse, is_better or found.is_small),
        "far worse": (is_worse and found.is_large, is_better or found.is_small),
        "not better": (found.is_not_better and not is_better, is_better),
        "not worse": (found.is_not_worse and not is_worse, is_worse),
        "equal": (found.is_small and not (is_better or is_worse), is_better or is_worse),
    }[relation]
    return "supported" if is_supported else "refuted" if is_refuted else "inconclusive"


def _in_words(found: Finding) -> str:
    """Return a finding in words; an inconclusive one with the side that is ruled out."""
    if found.word == "inconclusive" and found.is_not_better != found.is_not_worse:
        return f"inconclusive, but not {'better' if found.is_not_better else 'worse'} by the margin or more"
    return found.word


def _compared(study: Study, expected: Expectation) -> str:
    one, other = study.label(expected.arm), study.label(expected.than_arm)
    if expected.metric == expected.than_metric:
        return f"{expected.metric}, {one} minus {other}"
    if one == other:
        return f"{one}, {expected.metric} minus {expected.than_metric}"
    return f"{one} in {expected.metric} minus {other} in {expected.than_metric}"
