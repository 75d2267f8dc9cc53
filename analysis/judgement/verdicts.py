"""What each arm's difference shows, the verdict on each claim, and if a search is confirmed, by ``rules.py``."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

from aimv2.ablations.expand import Cell
from aimv2.ablations.expectations import Combination, Expectation, Expected, Ranges
from aimv2.ablations.study import Study
from aimv2.analysis.inference.contrasts import Bracket
from aimv2.analysis.inference.intervals import LEVEL, NO_ESTIMATE, NOT_MEASURED, Estimate
from aimv2.analysis.judgement.differences import Differences
from aimv2.analysis.judgement.rules import RULES_SINCE, Finding, Outcome, Word, decide, finding, level_of, outcome
from aimv2.analysis.judgement.withheld import Reasons
from aimv2.config.program import Program
from aimv2.definitions.metrics import lower_is_better

DIFFER = "the readouts differ"
Confirmation = Literal["confirmed", "not confirmed", "no conclusion"]


@dataclass(frozen=True)
class Comparison:
    """An arm minus the baseline in the primary metric, with a simultaneous interval."""

    difference: Estimate
    observed: Finding
    expected: str  # written before the runs: a relation, or ``open``, which has no outcome
    outcome: Outcome | None = None
    withheld: str = ""  # why nothing is concluded about the arm; empty if nothing prevents it

    @property
    def shows(self) -> str:
        """What is observed, in a word or two."""
        return self.observed.text if self.difference.n else NOT_MEASURED


class Judged(NamedTuple):
    """An expectation with its difference, its outcome, and what the difference shows."""

    expected: Expected
    difference: Estimate | Bracket
    outcome: Outcome
    observed: Finding


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a study about a claim, at its scale."""

    word: Word
    qualifications: tuple[str, ...]  # what qualifies the word, or why the claim is not testable
    # the comparisons of the claim in words, those first that decide; ``comparisons`` are the same
    evidence: tuple[str, ...]
    sensitivity: tuple[str, ...]  # what the metrics can tell apart at this scale
    comparisons: tuple[Judged, ...] = ()

    @property
    def deciding(self) -> tuple[Judged, ...]:
        """The comparisons that decide: those against a claim if the word is, else all."""
        if not self.word.is_against:
            return self.comparisons
        return tuple(judged for judged in self.comparisons if judged.outcome.word.is_against)


def primary_comparisons(reasons: Reasons, cells: Iterable[Cell], level: float = LEVEL) -> dict[str, Comparison]:
    """Compare every requested arm with the baseline in the primary metric, with simultaneous intervals."""
    study, requested, comparisons = reasons.study, {cell.arm for cell in cells}, {}
    margin, is_lower_better = study.primary_margin, study.lower_is_better
    arms = [arm for arm in study.arms if arm in requested and arm != study.baseline]
    differences = reasons.differences.from_baseline(study.primary_metric, arms, level, covers_items=True)
    for arm, difference in differences.items():
        relation = study.expected.get(arm)
        judged = outcome(relation, difference, margin, lower_is_better=is_lower_better) if relation else None
        observed = finding(difference, margin, lower_is_better=is_lower_better)
        withheld = "; ".join(reasons.of_arm(arm))
        comparisons[arm] = Comparison(difference, observed, relation or "open", judged, withheld)
    return comparisons


def confirmation(comparison: Comparison | None, withheld: Sequence[str]) -> Confirmation:
    """Return whether the winner of a search is better than the baseline, on fresh seeds."""
    if comparison is None or not comparison.difference.has_interval or withheld or comparison.withheld:
        return "no conclusion"
    return "confirmed" if comparison.observed.direction == "better" else "not confirmed"


def verdicts(
    reasons: Reasons, config: Program, level: float = LEVEL, share: Callable[[float], float] = level_of
) -> dict[str, Verdict]:
    """Return a verdict on each claim.

    Args:
        config: the baseline's run.
        level: that of this look.
        share: returns the level of a claim; that of claims whose runs are older than the rules is ``level_of``.
    """
    return {
        claim: _verdict(reasons, claim, config, (level_of if reasons.are_older_than_rules(claim) else share)(level))
        for claim in reasons.study.claims
    }


class _Decision(NamedTuple):
    """The word for a claim, its comparisons at the level that decides, those first that do, and how readouts differ."""

    word: Word
    comparisons: Sequence[Judged]
    differing: Sequence[str]


def _decided(study: Study, claim: str, differences: Differences, level: float) -> _Decision:
    @cache
    def judged_at(level: float) -> list[Judged]:
        return [_judged(study, expected, differences, level) for expected in study.claims[claim]]

    word, deciding_level = decide(claim, level, lambda level: agreed(judged_at(level)))
    words_first = [each for each in Word if (each.is_against if word.is_against else each is not Word.SUPPORTED)]
    comparisons = judged_at(deciding_level)
    differing = [outcome.qualification for outcome in agreed(comparisons) if outcome.qualification.startswith(DIFFER)]
    ordered = sorted(comparisons, key=lambda judged: judged.outcome.word not in words_first)
    return _Decision(word, ordered, list(dict.fromkeys(differing)))


def agreed(comparisons: Sequence[Judged]) -> list[Outcome]:
    """Return the outcomes, one for each two of an expectation by both readouts: undecided if their words differ."""
    outcomes = list[Outcome]()
    for before, judged in zip((None, *comparisons), comparisons, strict=False):
        if before is None or not judged.expected.is_second:
            outcomes.append(judged.outcome)
        elif (first := before.outcome.word) != (second := judged.outcome.word):
            differ = f"{DIFFER}: {first} by {before.expected.metric}, {second} by {judged.expected.metric}"
            outcomes[-1] = Outcome(Word.UNDECIDED, differ)
    return outcomes


def _verdict(reasons: Reasons, claim: str, config: Program, level: float) -> Verdict:
    study, sensitivity = reasons.study, reasons.sensitivity
    metrics = dict.fromkeys(metric for expected in study.claims[claim] for metric in expected.metrics)
    seen = tuple(sensitivity[metric].text for metric in metrics if metric in sensitivity)
    if absent := reasons.of_absent_metrics(claim, config):
        return Verdict(Word.NOT_TESTABLE, tuple(absent), (), seen)
    word, comparisons, differing = _decided(study, claim, reasons.differences, level)
    verdict = Verdict(
        word,
        (),
        tuple(_in_words(study, judged, reasons.differences) for judged in comparisons),
        seen,
        tuple(comparisons),
    )
    not_testable = [judged.outcome.qualification for judged in comparisons if judged.outcome.word is Word.NOT_TESTABLE]
    if why_not := dict.fromkeys([*reasons.of_claim(claim, config), *not_testable]):
        return replace(verdict, word=Word.NOT_TESTABLE, qualifications=tuple(why_not))
    if word is Word.NEGLIGIBLE and reasons.are_older_than_rules(claim):
        why = f"negligible by a rule of {RULES_SINCE}, which is younger than these runs, so fresh seeds decide"
        return replace(verdict, word=Word.UNDECIDED, qualifications=(why,))
    shared = {judged.outcome.qualification for judged in verdict.deciding}
    qualifications = [*filter(None, shared)] if len(shared) == 1 else []
    if word is Word.UNDECIDED:
        qualifications += differing
    else:
        qualifications += _hangs_on(reasons, claim, word, level)
        qualifications += reasons.before_training(judged.expected for judged in verdict.deciding)
    return replace(verdict, qualifications=tuple(qualifications))


def _hangs_on(reasons: Reasons, claim: str, word: Word, level: float) -> list[str]:
    """Return which seeds a verdict hangs on: without one of them alone it would be another."""
    without = {
        seed: _decided(reasons.study, claim, differences, level).word
        for seed, differences in reasons.without_a_seed.items()
    }
    seeds = [str(seed) for seed, other in without.items() if other is not word]
    return [f"it hangs on each of the seeds {', '.join(seeds)}"] if seeds else []


def _judged(study: Study, expected: Expected, differences: Differences, level: float) -> Judged:
    margin = study.margin_of(expected)
    # A wider range is a larger number, whatever the direction of the metric.
    relation = "better" if isinstance(expected, Ranges) else expected.relation
    is_lower_better = not isinstance(expected, Ranges) and lower_is_better(expected.metric)
    difference: Estimate | Bracket
    if isinstance(expected, Ranges):
        difference = differences.ranges(expected.metric, expected.range_arms, expected.than_arms, level)
    elif isinstance(expected, Combination):
        difference = differences.combination(expected.metric, expected.weights, level)
    else:
        difference = differences.of(expected.arm, expected.metric, expected.than_arm, expected.than_metric, level)
    judged = outcome(relation, difference, margin, expected.effect, lower_is_better=is_lower_better)
    return Judged(expected, difference, judged, finding(difference, margin, lower_is_better=is_lower_better))


def _in_words(study: Study, judged: Judged, differences: Differences) -> str:
    """Return a comparison with its interval, what was expected and observed, and the outcome; and the trimmed mean over
    seeds, which no diverged seed reaches."""
    expected, difference, margin = judged.expected, judged.difference, study.margin_of(judged.expected)
    compared = compared_in_words(study, expected)
    if not difference.has_interval:
        return f"{compared}: {judged.outcome.qualification}"
    claimed = f", claimed effect {expected.effect:g}" if expected.effect is not None else ""
    word = ", ".join(filter(None, (judged.outcome.word, judged.outcome.qualification)))
    trimmed = NO_ESTIMATE if isinstance(expected, Ranges) else differences.trimmed(_parts(expected), difference.level)
    robust = f"; trimmed mean {trimmed.text()}" if trimmed.has_interval else ""
    return (
        f"{compared}: {difference.text()} ({difference.basis}{robust}; margin {margin:.3g}{claimed}); expected"
        f" {expected.relation}, observed {_observed(judged)}: {word}"
    )


def _parts(expected: Expectation | Combination) -> list[tuple[str, str, float]]:
    """Return the arms and metrics whose weighted sum is compared with zero."""
    if isinstance(expected, Combination):
        return [(arm, expected.metric, weight) for arm, weight in expected.weights.items()]
    return [(expected.arm, expected.metric, 1.0), (expected.than_arm, expected.than_metric, -1.0)]


def _observed(judged: Judged) -> str:
    """Return a finding in words; an inconclusive one with the side that is ruled out."""
    observed = judged.observed
    if isinstance(judged.expected, Ranges):
        return {"better": "wider", "worse": "narrower", "unclear": "inconclusive"}[observed.direction]
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
