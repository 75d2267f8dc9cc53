"""The number of seeds with which a relation is shown, at a given noise of the difference.

More seeds reduce one part of a difference's error. The part that comes from the choice of evaluation items stays.
"""

import bisect
import math
from dataclasses import dataclass
from typing import Literal, Self

from scipy import special, stats

from aimv2.ablations.expectations import Relation
from aimv2.analysis.inference.intervals import POWER, Estimate

SMALLEST_SHARE = 1e-6  # of the seeds in an error's square; ``Estimate`` keeps nine digits of an error
MAX_SEARCHED = 2**24  # far beyond what anybody runs; the noncentral t distribution is still accurate


@dataclass(frozen=True)
class Noise:
    """The two parts of the error of a difference: error^2 = seeds^2 / n + items^2.

    Attributes:
        seeds: the standard deviation of the difference over seeds.
        items: the standard error from the choice of items; 0 if the interval does not cover it.
    """

    seeds: float
    items: float = 0.0

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        """Return the noise of an estimate."""
        seeds = estimate.error**2 - estimate.items_error**2
        # Of an error that is all of items, rounding is left, and no degrees of freedom to count.
        is_there = seeds > SMALLEST_SHARE * estimate.error**2
        return cls(math.sqrt(estimate.n * seeds) if is_there else 0.0, estimate.items_error)

    def error(self, num_seeds: int) -> float:
        """Return the standard error with so many seeds."""
        return math.hypot(self.seeds / math.sqrt(num_seeds), self.items)

    def df(self, num_seeds: int) -> float:
        """Return the degrees of freedom of that error (Satterthwaite 1946), for so many items that their part is
        known."""
        if not self.seeds:
            return math.inf
        share = self.error(num_seeds) ** 2 * num_seeds / self.seeds**2
        return (num_seeds - 1) * share**2


@dataclass(frozen=True)
class Aim:
    """What an interval must exclude.

    Attributes:
        distance: from the true difference to the value that the interval must exclude, in the metric's unit.
        alpha: the probability with which that end of the interval may be wrong.
        power: the probability with which the value must be excluded.
    """

    distance: float
    alpha: float
    power: float = POWER

    def detectable(self, noise: Noise, num_seeds: int) -> float:
        """Return the smallest distance that so many seeds exclude with the power, as ``detectable_difference``."""
        df = noise.df(num_seeds)
        if math.isinf(df):
            return self.factor * noise.error(num_seeds)
        critical = stats.t.isf(self.alpha, df)
        return float(special.nctdtrinc(df, 1 - self.power, critical)) * noise.error(num_seeds)

    @property
    def factor(self) -> float:
        """The detectable distance in standard errors that are known."""
        return float(stats.norm.isf(self.alpha) + stats.norm.ppf(self.power))


def aim_of(relation: Relation | Literal["wider"], margin: float, effect: float | None, level: float) -> Aim:
    """Return what must be excluded for a relation to be supported.

    The true difference is the claimed effect of *better*, *worse* and *far worse*, and none for the other relations.
    Without a claimed effect, *better* and *worse* must detect a difference as large as the margin, and *far worse* must
    rule it out. If there is no difference, an equivalence test has the power p if each of its two one-sided tests has
    (1 + p) / 2 (Schuirmann 1987).
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


def seeds_for(noise: Noise, aim: Aim) -> float:
    """Return the fewest seeds, 2 or more, that reach an aim; infinity if no number suffices; NaN without a distance."""
    if not aim.distance > 0:
        return math.nan
    if aim.factor * noise.items >= aim.distance:
        return math.inf  # the items' part alone is too large

    def suffice(num_seeds: int) -> bool:
        return aim.detectable(noise, num_seeds) <= aim.distance

    fewest = 2 + bisect.bisect_left(range(2, MAX_SEARCHED), True, key=suffice)
    return fewest if fewest < MAX_SEARCHED else math.inf
