"""The rules of decision: what an arm's difference shows, which verdict a claim has, and if a search is confirmed.

``inference/relations.py`` judges a single difference; ``withheld.py`` has the reasons that withhold a verdict.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expand import Cell
from aimv2.ablations.expectations import Combination, Expected, Ranges
from aimv2.ablations.study import Study
from aimv2.analysis.inference.contrasts import Bracket
from aimv2.analysis.inference.intervals import LEVEL, NOT_MEASURED, Estimate, bonferroni
from aimv2.analysis.inference.relations import Finding, Outcome, Word, finding, outcome
from aimv2.analysis.judgement.differences import Differences
from aimv2.analysis.judgement.withheld import Reasons
from aimv2.config.program import Program
from aimv2.definitions.metrics import lower_is_better

Confirmation = Literal["confirmed", "not confirmed", "no conclusion"]


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline in the primary metric.

    Attributes:
        difference: arm minus baseline, with a simultaneous interval.
        observed: what the difference shows.
        expected: written before the runs: ``better``, ``worse``, ``equal``, or ``open``.
        outcome: the expectation judged; None if there was none.
        withheld: why nothing is concluded about the arm; empty if nothing prevents it.
    """

    difference: Estimate
    observed: Finding
    expected: str
    outcome: Outcome | None = None
    withheld: str = ""

    @property
    def shows(self) -> str:
        """What is observed, in a word or two."""
        return self.observed.text if self.difference.n else NOT_MEASURED


class Judged(NamedTuple):
    """An expectation with its difference and outcome."""

    expected: Expected
    difference: Estimate | Bracket
    outcome: Outcome


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
    comparisons: tuple[Judged, ...] = ()

    @property
    def deciding(self) -> tuple[Judged, ...]:
        """The comparisons that decide: those against a claim that is contradicted or smaller than claimed, else all."""
        if not self.word.is_against:
            return self.comparisons
        return tuple(judged for judged in self.comparisons if judged.outcome.word.is_against)


def primary_comparisons(reasons: Reasons, cells: Iterable[Cell], level: float = LEVEL) -> dict[str, Comparison]:
    """Compare every requested arm with the baseline in the primary metric, with simultaneous intervals."""
    study, requested = reasons.study, {cell.arm for cell in cells}
    arms = [arm for arm in study.arms if arm in requested and arm != study.baseline]
    differences = reasons.differences.from_baseline(study.primary_metric, arms, level, covers_items=True)
    return {arm: _comparison(reasons, arm, difference) for arm, difference in differences.items()}


def _comparison(reasons: Reasons, arm: str, difference: Estimate) -> Comparison:
    study = reasons.study
    relation, margin, is_lower_better = study.expected.get(arm), study.primary_margin, study.lower_is_better
    return Comparison(
        difference,
        finding(difference, margin, lower_is_better=is_lower_better),
        relation or "open",
        outcome(relation, difference, margin, lower_is_better=is_lower_better) if relation else None,
        withheld="; ".join(reasons.of_arm(arm)),
    )


def confirmation(comparison: Comparison | None, withheld: Sequence[str]) -> Confirmation:
    """Return whether the winner of a search is better than the baseline, on fresh seeds.

    Args:
        withheld: why nothing is concluded in the primary metric.
    """
    if comparison is None or not comparison.difference.has_interval or withheld or comparison.withheld:
        return "no conclusion"
    return "confirmed" if comparison.observed.direction == "better" else "not confirmed"


def level_of(claim: str, level: float) -> float:
    """Return the level at which a study judges a claim, of that of the whole page of claims.

    All claims that studies judge have equal shares of the error rate, and so have the studies of a claim. So a verdict
    does not depend on what else was run, and the probability of any false verdict on the page is at most 1 - ``level``.
    """
    num_judged = sum(bool(judged.studies) for judged in CLAIMS.values())
    return bonferroni(num_judged * len(CLAIMS[claim].studies), level)


def verdicts(
    reasons: Reasons,
    config: Program,
    level: float = LEVEL,
    share: Callable[[str, float], float] = level_of,
) -> dict[str, Verdict]:
    """Return a verdict on each claim.

    Args:
        config: the baseline's run.
        level: of this look (``Look.level``).
        share: maps a claim and this level to that of the claim.
    """
    return {claim: _verdict(reasons, claim, config, share(claim, level)) for claim in reasons.study.claims}


def _verdict(reasons: Reasons, claim: str, config: Program, level: float) -> Verdict:
    study, sensitivity = reasons.study, reasons.sensitivity
    metrics = dict.fromkeys(metric for expected in study.claims[claim] for metric in expected.metrics)
    seen = tuple(sensitivity[metric].text for metric in metrics if metric in sensitivity)
    if absent := reasons.of_absent_metrics(claim, config):
        return Verdict(Word.NOT_TESTABLE, tuple(absent), (), seen)
    each = [_judged(study, expected, reasons.differences, level) for expected in study.claims[claim]]
    word, comparisons = _decided(claim, each, study, reasons.differences, level)
    not_testable = [judged.outcome.qualification for judged in each if judged.outcome.word is Word.NOT_TESTABLE]
    evidence = tuple(_in_words(study, judged) for judged in comparisons)
    if why_not := dict.fromkeys([*reasons.of_claim(claim, config), *not_testable]):
        return Verdict(Word.NOT_TESTABLE, tuple(why_not), evidence, seen, tuple(comparisons))
    verdict = Verdict(word, (), evidence, seen, tuple(comparisons))
    shared = {judged.outcome.qualification for judged in verdict.deciding}
    qualifications = [*filter(None, shared)] if len(shared) == 1 else []
    if word is not Word.UNDECIDED:
        qualifications += reasons.before_training(judged.expected for judged in verdict.deciding)
    return replace(verdict, qualifications=tuple(qualifications))


def _decided(
    claim: str, each: Sequence[Judged], study: Study, differences: Differences, level: float
) -> tuple[Word, Sequence[Judged]]:
    """Return the word for a claim, and its expectations, those first that decide or block it.

    Support needs all expectations, and some claims are contradicted by all together only: intersection-union tests,
    where each has the full level (Berger 1982). One expectation alone contradicts the other claims, so there the level
    is shared.
    """
    if all(judged.outcome.word is Word.SUPPORTED for judged in each):
        return Word.SUPPORTED, each
    if CLAIMS[claim].contradicted_by == "all":
        strict, enough = each, all
    else:
        shared, enough = bonferroni(len(each), level), any
        strict = [_judged(study, judged.expected, differences, shared) for judged in each]
    if enough(judged.outcome.word.is_against for judged in strict):
        is_contradicted = enough(judged.outcome.word is Word.CONTRADICTED for judged in strict)
        word = Word.CONTRADICTED if is_contradicted else Word.SMALLER
        return word, sorted(strict, key=lambda judged: not judged.outcome.word.is_against)
    # What blocks comes first.
    return Word.UNDECIDED, sorted(each, key=lambda judged: judged.outcome.word is Word.SUPPORTED)


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


def _in_words(study: Study, judged: Judged) -> str:
    """Return a comparison with its interval, what was expected and observed, and the outcome."""
    expected, difference, margin = judged.expected, judged.difference, study.margin_of(judged.expected)
    compared = compared_in_words(study, expected)
    if not difference.has_interval:
        return f"{compared}: {judged.outcome.qualification}"
    claimed = f", claimed effect {expected.effect:g}" if expected.effect is not None else ""
    word = ", ".join(filter(None, (judged.outcome.word, judged.outcome.qualification)))
    return (
        f"{compared}: {difference.text()} ({difference.basis}; margin {margin:.3g}{claimed}); expected"
        f" {expected.relation}, observed {_observed(judged, margin)}: {word}"
    )


def _observed(judged: Judged, margin: float) -> str:
    """Return a finding in words; an inconclusive one with the side that is ruled out."""
    if isinstance(judged.expected, Ranges):
        observed = finding(judged.difference, margin, lower_is_better=False)
        return {"better": "wider", "worse": "narrower", "unclear": "inconclusive"}[observed.direction]
    observed = finding(judged.difference, margin, lower_is_better=lower_is_better(judged.expected.metric))
    if observed.text == "inconclusive" and observed.is_not_better != observed.is_not_worse:
        return f"inconclusive, but not {'better' if observed.is_not_better else 'worse'} by the margin"
    return observed.text


def compared_in_words(study: Study, expected: Expected) -> str:
    """Return what an expectation compares."""
    if isinstance(expected, Ranges):
        return f"{expected.metric}, {expected.name} minus {expected.than_name}"
    if isinstance(expected, Combination):
        return f"{expected.metric}, {expected.name}"
    arm, than_arm = study.label(expected.arm), study.label(expected.than_arm)
    if expected.metric == expected.than_metric:
        return f"{expected.metric}, {arm} minus {than_arm}"
    if arm == than_arm:
        return f"{arm}, {expected.metric} minus {expected.than_metric}"
    return f"{arm} in {expected.metric} minus {than_arm} in {expected.than_metric}"
