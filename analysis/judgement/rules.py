"""The rule of verdicts: what a difference shows, and what it means for a relation and a claim.

``outcome`` judges a relation by an interval, ``aim_of`` says what that interval must exclude, ``level_of`` shares the
error rate among claims, and ``decide`` joins the outcomes of a claim's expectations. ``withheld.py`` judges controls,
and has the reasons that withhold a verdict.

Rules that were changed after runs were seen may weaken what these runs say, and never decide by them: a run that began
before RULES_SINCE is judged as the first step of ``level_of``, and cannot show that an effect is negligible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import Relation
from aimv2.analysis.inference.contrasts import Bracket
from aimv2.analysis.inference.intervals import POWER, Aim, Estimate, bonferroni

Direction = Literal["better", "worse", "unclear"]
RULES_SINCE = "2026-12-07"  # the day from which the rules are as they are here
NULL_LEVEL = 0.99  # of the interval that the null control's difference must not exclude zero with


class Word(StrEnum):
    """The outcome of an expectation or of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    SMALLER = "smaller than claimed"
    NEGLIGIBLE = "negligible"
    UNDECIDED = "undecided"
    NOT_TESTABLE = "not testable"

    @property
    def is_against(self) -> bool:
        """True if the word speaks against the claim."""
        return self in (Word.CONTRADICTED, Word.SMALLER, Word.NEGLIGIBLE)


@dataclass(frozen=True)
class Outcome:
    """A word and, apart from it, what qualifies it; empty if nothing does."""

    word: Word
    qualification: str = ""


@dataclass(frozen=True)
class Finding:
    """What a difference shows; ``is_not_…`` if a difference of the margin or more on that side is ruled out."""

    direction: Direction
    is_not_better: bool
    is_not_worse: bool

    @property
    def is_small(self) -> bool:
        """True if differences of the margin or more are ruled out on both sides."""
        return self.is_not_better and self.is_not_worse

    @property
    def text(self) -> str:
        if self.direction == "unclear":
            return "equivalent" if self.is_small else "inconclusive"
        return f"{self.direction}, within the margin" if self.is_small else self.direction


@dataclass(frozen=True)
class Bounds:
    """The ends of an interval of how much better one side is, whatever the direction of the metric: ``low`` and
    ``high`` hold together with 1 - alpha, and ``low_alone`` and ``high_alone`` each alone."""

    low: float
    high: float
    low_alone: float
    high_alone: float

    @classmethod
    def of(cls, difference: Estimate | Bracket, *, lower_is_better: bool) -> "Bounds":
        """Return the bounds of a difference; NaN without an interval, so that they show nothing."""
        alone = difference.one_sided
        bounds = cls(difference.low, difference.high, alone.low, alone.high)
        return bounds.reversed if lower_is_better else bounds

    @property
    def reversed(self) -> "Bounds":
        """The bounds of how much worse it is."""
        return Bounds(-self.high, -self.low, -self.high_alone, -self.low_alone)

    @property
    def direction(self) -> Direction:
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"

    def is_within(self, margin: float) -> bool:
        """True if differences of the margin or more are ruled out on both sides (Schuirmann 1987)."""
        return self.low_alone > -margin and self.high_alone < margin


def finding(difference: Estimate | Bracket, margin: float, *, lower_is_better: bool) -> Finding:
    """Return what a difference shows at its level, given the equivalence margin in the metric's unit."""
    advantage = Bounds.of(difference, lower_is_better=lower_is_better)
    return Finding(
        advantage.direction, is_not_better=advantage.high_alone < margin, is_not_worse=advantage.low_alone > -margin
    )


def outcome(
    relation: Relation,
    difference: Estimate | Bracket,
    margin: float,
    effect: float | None = None,
    *,
    lower_is_better: bool,
) -> Outcome:
    """Judge a relation by a difference, at its level, with margin and claimed effect in the metric's unit. Only
    evidence against a relation contradicts it."""
    if not difference.has_interval:
        reason = "no spread over seeds" if difference.n > 1 else "too few seeds" if difference.n else "not measured"
        return Outcome(Word.NOT_TESTABLE, reason)
    advantage = Bounds.of(difference, lower_is_better=lower_is_better)
    match relation:
        case "better":
            return _differs(advantage, margin, effect)
        case "worse":
            return _differs(advantage.reversed, margin, effect)
        case "far worse":
            return _differs_by_far(advantage.reversed, margin, effect)
        case "not better":
            return _not_more(advantage, margin)
        case "not worse":
            return _not_more(advantage.reversed, margin)
        case "equal":
            return _equal(advantage, margin)


def _differs(excess: Bounds, margin: float, effect: float | None) -> Outcome:
    """Judge "there is an effect in this direction": contradicted by one in the other direction. Without a detected
    effect, it is negligible if one of the margin is ruled out (a one-sided test), and smaller than claimed if the
    claimed one is."""
    is_below_claim = effect is not None and excess.high < effect
    is_small = excess.is_within(margin)
    if excess.low > 0:
        if is_below_claim:
            return Outcome(Word.SUPPORTED, f"the effect is smaller than the claimed {effect:g}")
        return Outcome(Word.SUPPORTED, "the effect is within the margin" if is_small else "")
    if excess.high < 0:
        return Outcome(Word.CONTRADICTED, "the effect is within the margin" if is_small else "")
    if excess.high_alone < margin:
        return Outcome(Word.NEGLIGIBLE, f"an effect of {margin:.3g} is ruled out")
    if is_below_claim:
        return Outcome(Word.SMALLER, f"an effect of {effect:g} is ruled out")
    return Outcome(Word.UNDECIDED)


def _differs_by_far(excess: Bounds, margin: float, effect: float | None) -> Outcome:
    """Judge "there is an effect in this direction, larger than the margin"."""
    claimed = margin if effect is None else effect
    if excess.low > margin:
        is_below_claim = excess.high < claimed
        return Outcome(Word.SUPPORTED, f"the effect is smaller than the claimed {claimed:g}" if is_below_claim else "")
    if excess.high < 0:
        return Outcome(Word.CONTRADICTED, "the effect is within the margin" if excess.is_within(margin) else "")
    if excess.high < claimed:
        return Outcome(Word.SMALLER, f"an effect of {claimed:g} is ruled out")
    return Outcome(Word.UNDECIDED)


def _not_more(excess: Bounds, margin: float) -> Outcome:
    """Judge "an effect in this direction is no larger than the margin": noninferiority, or nonsuperiority."""
    if excess.high_alone < margin:
        return Outcome(Word.SUPPORTED, "there is an effect, within the margin" if excess.low > 0 else "")
    if excess.low > margin:
        return Outcome(Word.CONTRADICTED)
    return Outcome(Word.UNDECIDED, "there is an effect, perhaps within the margin" if excess.low > 0 else "")


def _equal(excess: Bounds, margin: float) -> Outcome:
    """Judge "differences are no larger than the margin": two one-sided tests."""
    is_detected = excess.direction != "unclear"
    if excess.is_within(margin):
        return Outcome(Word.SUPPORTED, "there is a difference, within the margin" if is_detected else "")
    if excess.low > margin or excess.high < -margin:
        return Outcome(Word.CONTRADICTED)
    return Outcome(Word.UNDECIDED, "there is a difference, perhaps within the margin" if is_detected else "")


def aim_of(relation: Relation | Literal["wider"], margin: float, effect: float | None, level: float) -> Aim:
    """Return what must be excluded for a relation to be supported.

    The true difference is the claimed effect of *better*, *worse* and *far worse* (without one, the margin), and none
    for the other relations. If there is none, an equivalence test has the power p if each of its two one-sided tests
    has (1 + p) / 2 (Schuirmann 1987).
    """
    alpha = 1 - level
    match relation:
        case "better" | "worse" | "wider":
            return Aim(margin if effect is None else effect, alpha / 2)
        case "far worse":
            return Aim(margin if effect is None else effect - margin, alpha / 2)
        case "not better" | "not worse":
            return Aim(margin, alpha)
        case "equal":
            return Aim(margin, alpha, (1 + POWER) / 2)


def level_of(level: float, num_decided: int = 0) -> float:
    """Return the level at which a claim is judged, of that of the whole page of claims.

    All claims that studies judge have equal shares of the error rate, so the probability of any false verdict on the
    page is at most 1 - ``level``. The page goes on with the claims that are left once others are decided (Holm 1979);
    the report of a study stays at the first step, so that it does not depend on what else was run.
    """
    num_judged = sum(bool(claim.studies) for claim in CLAIMS.values())
    return bonferroni(num_judged - num_decided, level)


def alone(level: float) -> float:
    """Return the level of a claim that is judged by itself, beside no page of others."""
    return level


def decide(claim: str, level: float, outcomes_at: Callable[[float], Sequence[Outcome]]) -> tuple[Word, float]:
    """Return the word for a claim, and the level of the outcomes that it rests on.

    Support needs all expectations, and some claims are contradicted by all together only: intersection-union tests,
    where each has the full level (Berger 1982). One expectation alone contradicts the other claims, so there the level
    is shared. ``outcomes_at`` returns the outcomes of the claim's expectations at a level.
    """
    outcomes = outcomes_at(level)
    if all(outcome.word is Word.SUPPORTED for outcome in outcomes):
        return Word.SUPPORTED, level
    strict, enough = level, all
    if CLAIMS[claim].contradicted_by != "all":
        strict, enough = bonferroni(len(outcomes), level), any
        outcomes = outcomes_at(strict)
    against = (Word.CONTRADICTED, Word.SMALLER, Word.NEGLIGIBLE)  # the word is that of which enough are, or are more
    for number, word in enumerate(against, 1):
        if enough(outcome.word in against[:number] for outcome in outcomes):
            return word, strict
    return Word.UNDECIDED, level
