"""Verdicts on the paper's claims, from the expectations that a study wrote for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ablations.claims import CLAIMS
from ablations.expectations import Expectation
from ablations.study import Study
from aimv2.evaluation.metrics import lower_is_better
from analysis.inference.intervals import LEVEL, Estimate, bonferroni
from analysis.inference.relations import Finding, Outcome, Word, finding, outcome
from analysis.judgement.compare import Differences, mixed_code, reasons_to_withhold
from analysis.judgement.controls import ControlOutcome, offsets, withholding
from analysis.judgement.sensitivity import MetricSensitivity, insensitive
from analysis.load import Evidence


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a study about a claim, at its scale.

    Attributes:
        qualifications: what qualifies the word, or why the claim is not testable.
        evidence: the comparisons that decide, in words.
        sensitivity: what the metrics can tell apart at this scale.
    """

    word: Word
    qualifications: tuple[str, ...]
    evidence: tuple[str, ...]
    sensitivity: tuple[str, ...]


def verdicts(
    study: Study,
    evidence: Evidence,
    *,
    controls: Sequence[ControlOutcome],
    sensitivity: Mapping[str, MetricSensitivity],
    scale: str,
    level: float = LEVEL,
) -> dict[str, Verdict]:
    """Return a verdict on each claim.

    The probability of any false verdict in the study is at most 1 - ``level``: claims have equal shares of it.

    Args:
        controls: those that did not pass in a metric withhold the verdicts that use it.
        sensitivity: by metric. One that is absent, or does not tell small steps apart, decides no claim.
        scale: of the runs, to name in notes.
    """
    differences = Differences(study, evidence)
    share = bonferroni(len(study.claims), level)
    found = {}
    for claim, expectations in study.claims.items():
        metrics = dict.fromkeys(metric for one in expectations for metric in (one.metric, one.than_metric))
        arms = dict.fromkeys(arm for one in expectations for arm in (one.arm, one.than_arm))
        absent = [f"{metric} is {why}" for metric in metrics if (why := evidence.why_absent(metric))]
        blind = [insensitive(metric, sensitivity, scale) for metric in metrics]
        reasons = [
            *reasons_to_withhold(study, evidence, arms),
            *withholding(controls, metrics),
            *filter(None, blind),
            *offsets(study, evidence, expectations),
        ]
        if mixed := mixed_code(study, evidence):  # then the others follow from it
            reasons = [mixed]
        seen = tuple(sensitivity[metric].text for metric in metrics if metric in sensitivity)
        if absent:
            found[claim] = Verdict(Word.NOT_TESTABLE, tuple(absent), (), seen)
        else:
            found[claim] = _verdict(study, claim, differences, share, reasons, seen)
    return found


class _Judged(NamedTuple):
    """An expectation with its difference and outcome."""

    expected: Expectation
    difference: Estimate
    outcome: Outcome


def _verdict(
    study: Study,
    claim: str,
    differences: Differences,
    level: float,
    reasons: Sequence[str],
    sensitivity: tuple[str, ...],
) -> Verdict:
    expectations = study.claims[claim]
    each = [_judged(study, one, differences, level) for one in expectations]
    word, deciding = _decided(claim, each, study, differences, level)
    not_testable = [*reasons, *(one.outcome.qualification for one in each if _is_untestable(one))]
    evidence = tuple(_in_words(study, one) for one in deciding)
    if not_testable:
        return Verdict(Word.NOT_TESTABLE, tuple(dict.fromkeys(not_testable)), evidence, sensitivity)
    shared = {one.outcome.qualification for one in deciding}
    qualifications = tuple(filter(None, shared)) if len(shared) == 1 else ()
    return Verdict(word, qualifications, evidence, sensitivity)


def _decided(
    claim: str, each: Sequence[_Judged], study: Study, differences: Differences, level: float
) -> tuple[Word, Sequence[_Judged]]:
    """Return the word for a claim, and the expectations that decide it.

    Support needs all expectations, and some claims are contradicted by all together only: intersection-union tests,
    where each has the full level (Berger 1982). One expectation alone contradicts the other claims, so there the level
    is shared.
    """
    if all(one.outcome.word is Word.SUPPORTED for one in each):
        return Word.SUPPORTED, each
    if CLAIMS[claim].contradicted_by == "all":
        against = each if all(one.outcome.word.is_against for one in each) else []
    else:
        shared = bonferroni(len(each), level)
        strict = [_judged(study, one.expected, differences, shared) for one in each]
        against = [one for one in strict if one.outcome.word.is_against]
    if against:
        contradicted = [one.outcome.word is Word.CONTRADICTED for one in against]
        enough = all if CLAIMS[claim].contradicted_by == "all" else any
        return Word.CONTRADICTED if enough(contradicted) else Word.SMALLER, against
    return Word.UNDECIDED, each


def _judged(study: Study, expected: Expectation, differences: Differences, level: float) -> _Judged:
    difference = differences.of(expected.arm, expected.metric, expected.than_arm, expected.than_metric, level)
    judged = outcome(
        expected.relation,
        difference,
        study.margin_of(expected),
        expected.effect,
        lower_is_better=lower_is_better(expected.metric),
    )
    return _Judged(expected, difference, judged)


def _is_untestable(one: _Judged) -> bool:
    return one.outcome.word is Word.NOT_TESTABLE


def _in_words(study: Study, one: _Judged) -> str:
    """Return a comparison with its interval, what was expected, what is observed, and the outcome."""
    expected, difference, margin = one.expected, one.difference, study.margin_of(one.expected)
    compared = _compared(study, expected)
    if not difference.has_interval:
        return f"{compared}: {one.outcome.qualification}"
    observed = _observed(finding(difference, margin, lower_is_better=lower_is_better(expected.metric)))
    claimed = f", claimed effect {expected.effect:g}" if expected.effect is not None else ""
    word = ", ".join(filter(None, (one.outcome.word, one.outcome.qualification)))
    return (
        f"{compared}: {difference.text()} ({difference.basis}; margin {margin:g}{claimed}); expected"
        f" {expected.relation}, observed {observed}: {word}"
    )


def _observed(found: Finding) -> str:
    """Return a finding in words; an inconclusive one with the side that is ruled out."""
    if found.text == "inconclusive" and found.is_not_better != found.is_not_worse:
        return f"inconclusive, but not {'better' if found.is_not_better else 'worse'} by the margin"
    return found.text


def _compared(study: Study, expected: Expectation) -> str:
    one, other = study.label(expected.arm), study.label(expected.than_arm)
    if expected.metric == expected.than_metric:
        return f"{expected.metric}, {one} minus {other}"
    if one == other:
        return f"{one}, {expected.metric} minus {expected.than_metric}"
    return f"{one} in {expected.metric} minus {other} in {expected.than_metric}"
