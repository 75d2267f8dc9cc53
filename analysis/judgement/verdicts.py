"""Verdicts on the paper's claims, from the expectations that a study wrote for each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import Combination, Expectation, Expected, Ranges
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import LEVEL, Estimate, bonferroni
from aimv2.analysis.inference.ranges import Bracket
from aimv2.analysis.inference.relations import Outcome, Word, finding, outcome
from aimv2.analysis.judgement import before
from aimv2.analysis.judgement.compare import Differences, mixed_code, reasons_to_withhold
from aimv2.analysis.judgement.controls import ControlOutcome, offsets, withholding
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, insensitive
from aimv2.config.program import Program
from aimv2.spec.metrics import lower_is_better


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a study about a claim, at its scale.

    Attributes:
        qualifications: what qualifies the word, or why the claim is not testable.
        evidence: the comparisons of the claim in words, those first that decide.
        comparisons: the same comparisons, as they were judged.
        sensitivity: what the metrics can tell apart at this scale.
    """

    word: Word
    qualifications: tuple[str, ...]
    evidence: tuple[str, ...]
    sensitivity: tuple[str, ...]
    comparisons: "tuple[Judged, ...]" = ()

    @property
    def deciding(self) -> "tuple[Judged, ...]":
        """The comparisons that decide: those against a claim that is contradicted or smaller than claimed, else all."""
        if not self.word.is_against:
            return self.comparisons
        return tuple(one for one in self.comparisons if one.outcome.word.is_against)


class Judged(NamedTuple):
    """An expectation with its difference and outcome."""

    expected: Expected
    difference: Estimate | Bracket
    outcome: Outcome


def verdicts(
    study: Study,
    evidence: Evidence,
    *,
    controls: Sequence[ControlOutcome],
    sensitivity: Mapping[str, MetricSensitivity],
    config: Program,
    untrained: Mapping[str, str] | None = None,
    level: float = LEVEL,
    share: Callable[[str, float], float] | None = None,
) -> dict[str, Verdict]:
    """Return a verdict on each claim.

    Args:
        controls: those that did not pass in a metric withhold the verdicts that use it.
        sensitivity: by metric. One that is absent, or does not see the rungs of a claim's kinds, does not decide it.
        config: the baseline's run.
        untrained: by arm, the name of its encoder before training (``before.names_of``); None if all have the
            baseline's.
        level: of this look (``Look.level``).
        share: maps a claim and this level to that of the claim; None is ``level_of``.
    """
    differences = Differences(study, evidence)
    found = {}
    for claim, expectations in study.claims.items():
        metrics = dict.fromkeys(metric for one in expectations for metric in one.metrics)
        arms = dict.fromkeys(arm for one in expectations for arm in one.arms)
        absent = [f"{metric} is {why}" for metric in metrics if (why := _why_absent(evidence, metric))]
        blind = [insensitive(metric, sensitivity, CLAIMS[claim].kinds) for metric in metrics]
        reasons = [
            *_not_run(evidence, arms),
            *reasons_to_withhold(study, evidence, arms),
            *withholding(controls, metrics),
            *filter(None, blind),
            *offsets(study, evidence, expectations),
            *_without_mechanism(study, claim, config),
        ]
        if mixed := mixed_code(study, evidence):  # then the others follow from it
            reasons = [mixed]
        seen = tuple(sensitivity[metric].text for metric in metrics if metric in sensitivity)
        if absent:
            why_not = (*absent, *_without_mechanism(study, claim, config))
            found[claim] = Verdict(Word.NOT_TESTABLE, why_not, (), seen)
        else:
            own = (share or level_of)(claim, level)
            verdict = _verdict(study, claim, differences, own, reasons, seen, sensitivity)
            if verdict.word in (Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER):
                deciding = [one.expected for one in verdict.deciding]
                more = before.qualifications(study, differences, untrained or {}, deciding)
                verdict = replace(verdict, qualifications=(*verdict.qualifications, *more))
            found[claim] = verdict
    return found


def _why_absent(evidence: Evidence, metric: str) -> str:
    """Return why no run has a metric, though there are runs; empty if one has it."""
    why = evidence.why_absent(metric)
    is_lacking = len(evidence.metrics) and not len(evidence.values(metric))
    return why or ("not among the metrics of these runs" if is_lacking else "")


def _not_run(evidence: Evidence, arms: Iterable[str]) -> list[str]:
    """Return which arms were not launched."""
    absent = [arm for arm in arms if not evidence.num_runs(arm)]
    return [f"sweep.arms left out {' and '.join(absent)}"] if absent else []


def _without_mechanism(study: Study, claim: str, config: Program) -> list[str]:
    """Return what the base run lacks of the claim's mechanism; such runs speak neither for nor against the claim."""
    missing = study.needs[claim](config) if claim in study.needs else ""
    return [missing] if missing else []


def level_of(claim: str, level: float) -> float:
    """Return the level at which a study judges a claim, of that of the whole page of claims.

    All claims that studies judge have equal shares of the error rate, and so have the studies of a claim. So a verdict
    does not depend on what else was run, and the probability of any false verdict on the page is at most 1 - ``level``.
    """
    num_judged = sum(bool(one.studies) for one in CLAIMS.values())
    return bonferroni(num_judged * len(CLAIMS[claim].studies), level)


def _verdict(
    study: Study,
    claim: str,
    differences: Differences,
    level: float,
    reasons: Sequence[str],
    seen: tuple[str, ...],
    sensitivity: Mapping[str, MetricSensitivity],
) -> Verdict:
    expectations = study.claims[claim]
    each = [_judged(study, one, differences, level) for one in expectations]
    word, comparisons = _decided(claim, each, study, differences, level)
    not_testable = [*reasons, *(one.outcome.qualification for one in each if one.outcome.word is Word.NOT_TESTABLE)]
    evidence = tuple(_in_words(study, one, differences, sensitivity) for one in comparisons)
    if not_testable:
        return Verdict(Word.NOT_TESTABLE, tuple(dict.fromkeys(not_testable)), evidence, seen, tuple(comparisons))
    verdict = Verdict(word, (), evidence, seen, tuple(comparisons))
    shared = {one.outcome.qualification for one in verdict.deciding}
    return replace(verdict, qualifications=tuple(filter(None, shared)) if len(shared) == 1 else ())


def _decided(
    claim: str, each: Sequence[Judged], study: Study, differences: Differences, level: float
) -> tuple[Word, Sequence[Judged]]:
    """Return the word for a claim, and its expectations, those first that decide or block it.

    Support needs all expectations, and some claims are contradicted by all together only: intersection-union tests,
    where each has the full level (Berger 1982). One expectation alone contradicts the other claims, so there the level
    is shared.
    """
    if all(one.outcome.word is Word.SUPPORTED for one in each):
        return Word.SUPPORTED, each
    if CLAIMS[claim].contradicted_by == "all":
        strict, is_against = each, all(one.outcome.word.is_against for one in each)
    else:
        shared = bonferroni(len(each), level)
        strict = [_judged(study, one.expected, differences, shared) for one in each]
        is_against = any(one.outcome.word.is_against for one in strict)
    if is_against:
        contradicted = [one.outcome.word is Word.CONTRADICTED for one in strict]
        enough = all if CLAIMS[claim].contradicted_by == "all" else any
        word = Word.CONTRADICTED if enough(contradicted) else Word.SMALLER
        return word, sorted(strict, key=lambda one: not one.outcome.word.is_against)
    return Word.UNDECIDED, sorted(each, key=lambda one: one.outcome.word is Word.SUPPORTED)  # what blocks comes first


def _judged(study: Study, expected: Expected, differences: Differences, level: float) -> Judged:
    margin = study.margin_of(expected)
    if isinstance(expected, Ranges):
        bracket = differences.ranges(expected.metric, expected.range_arms, expected.than_arms, level)
        # A wider range is a larger number, whatever the direction of the metric.
        return Judged(expected, bracket, outcome("better", bracket, margin, expected.effect, lower_is_better=False))
    if isinstance(expected, Combination):
        difference = differences.combination(expected.metric, expected.weights, level)
    else:
        difference = differences.of(expected.arm, expected.metric, expected.than_arm, expected.than_metric, level)
    is_lower_better = lower_is_better(expected.metric)
    judged = outcome(expected.relation, difference, margin, expected.effect, lower_is_better=is_lower_better)
    return Judged(expected, difference, judged)


def _in_words(study: Study, one: Judged, differences: Differences, sensitivity: Mapping[str, MetricSensitivity]) -> str:
    """Return a comparison with its interval, classes of words, what was expected and observed, and the outcome."""
    expected, difference, margin = one.expected, one.difference, study.margin_of(one.expected)
    compared = compared_in_words(study, expected)
    if not difference.has_interval:
        return f"{compared}: {one.outcome.qualification}"
    claimed = f", claimed effect {expected.effect:g}" if expected.effect is not None else ""
    word = ", ".join(filter(None, (one.outcome.word, one.outcome.qualification)))
    told = ""
    if isinstance(expected, Expectation) and isinstance(difference, Estimate) and len(expected.metrics) == 1:
        found = differences.parts(expected.metric, {expected.arm: difference}, expected.than_arm, difference.level)
        told = "".join(f", {one.text_with_rest}" for one in found.values() if one.most)
    return (
        f"{compared}: {difference.text()}{_worth(one, sensitivity)} ({difference.basis}; margin"
        f" {margin:.3g}{claimed}){told}; expected {expected.relation}, observed {_observed(one, margin)}: {word}"
    )


def _worth(one: Judged, sensitivity: Mapping[str, MetricSensitivity]) -> str:
    """Return how many samples a difference of two arms is worth, in words; empty if that is not known."""
    expected, difference = one.expected, one.difference
    seen = sensitivity.get(expected.metric)
    if not isinstance(expected, Expectation) or isinstance(difference, Bracket) or seen is None:
        return ""
    bounds = difference.mean, difference.low, difference.high
    if not lower_is_better(expected.metric):
        bounds = -difference.mean, -difference.high, -difference.low
    worth = seen.curve.worth(*bounds)
    return f", {worth}" if worth else ""


def _observed(one: Judged, margin: float) -> str:
    """Return a finding in words; an inconclusive one with the side that is ruled out."""
    if isinstance(one.expected, Ranges):
        found = finding(one.difference, margin, lower_is_better=False)
        return {"better": "wider", "worse": "narrower", "unclear": "inconclusive"}[found.direction]
    found = finding(one.difference, margin, lower_is_better=lower_is_better(one.expected.metric))
    if found.text == "inconclusive" and found.is_not_better != found.is_not_worse:
        return f"inconclusive, but not {'better' if found.is_not_better else 'worse'} by the margin"
    return found.text


def compared_in_words(study: Study, expected: Expected) -> str:
    """Return what an expectation compares."""
    if isinstance(expected, Ranges):
        return f"{expected.metric}, {expected.name} minus {expected.than_name}"
    if isinstance(expected, Combination):
        return f"{expected.metric}, {expected.name}"
    one, other = study.label(expected.arm), study.label(expected.than_arm)
    if expected.metric == expected.than_metric:
        return f"{expected.metric}, {one} minus {other}"
    if one == other:
        return f"{one}, {expected.metric} minus {expected.than_metric}"
    return f"{one} in {expected.metric} minus {other} in {expected.than_metric}"
