"""Ranges of arms: the largest minus the smallest true mean, and the difference of two such ranges.

The range of observed means is too wide, because noise spreads arms that are equal. A mean of ranges over seeds is wider
still, and its interval closes around the wrong value. Bounds are therefore taken from contrasts, which are unbiased:
the difference of two ranges is

    max over (i, j)  min over (k, l)  of  (mean_i - mean_j) - (mean_k - mean_l) ,

with (i, j) all ordered pairs of the one ladder and (k, l) those of the other. If simultaneous intervals hold all these
contrasts, the same maximum of minima of their ends holds the difference of the ranges. The bounds are conservative.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from aimv2.analysis.inference.contrasts import SharedError
from aimv2.analysis.inference.intervals import (
    LEVEL,
    NOT_MEASURED,
    Covers,
    ErrorSource,
    bonferroni,
    percent,
    with_interval,
)


@dataclass(frozen=True)
class Bracket:
    """A quantity that lies between two ends with a level, without a standard error of its own.

    Attributes:
        mean: the difference of the observed ranges, which noise biases; the bounds do not rest on it.
        low, high: NaN if there is no interval.
        n: the number of seeds; of several contrasts, the smallest.
        covers, family: as in ``Estimate``; the bounds stand alone.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = LEVEL
    error_from: ErrorSource = "own"
    covers: ClassVar[Covers] = "seeds"
    family: ClassVar[int] = 1

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    @property
    def one_sided(self) -> "Bracket":
        """The bracket itself: an end that holds together with the other also holds alone."""
        return self

    def text(self, form: str = "+.3f") -> str:
        """Return the observed difference and the bounds, or why there are none."""
        if not self.n:
            return NOT_MEASURED
        return with_interval(self.mean, self.low, self.high, form)

    @property
    def basis(self) -> str:
        """Return what the bounds rest on: level, seeds, error, and what they cover."""
        return (
            f"{percent(self.level, 2)} %, bounds of all contrasts, n = {self.n}, {self.error_from} error, covers seeds"
        )


NO_BRACKET = Bracket(math.nan, math.nan, math.nan, 0)


def range_difference(
    error: SharedError, arms: Sequence[str], than_arms: Sequence[str], level: float = LEVEL
) -> Bracket:
    """Return how much wider the range of some arms is than that of others.

    Args:
        arms, than_arms: two or more each; an arm may be in both.
    """
    share = bonferroni(num_contrasts(arms, than_arms), level)
    rows = [
        [error.combination(_weights(*pair, *than), share) for than in permutations(than_arms, 2)]
        for pair in permutations(arms, 2)
    ]
    every = [one for row in rows for one in row]
    if not all(one.n for one in every):
        return NO_BRACKET
    mean, n = max(min(one.mean for one in row) for row in rows), min(one.n for one in every)
    if not all(one.has_interval for one in every):
        return Bracket(mean, math.nan, math.nan, n, level)
    source: ErrorSource = "own" if any(one.error_from == "own" for one in every) else "pooled"
    low, high = (max(min(getattr(one, end) for one in row) for row in rows) for end in ("low", "high"))
    return Bracket(mean, low, high, n, level, source)


def num_contrasts(arms: Sequence[str], than_arms: Sequence[str]) -> int:
    """Return the number of contrasts, up to their sign, whose intervals must hold together."""
    return len(arms) * (len(arms) - 1) * len(than_arms) * (len(than_arms) - 1) // 2


def _weights(high: str, low: str, than_high: str, than_low: str) -> dict[str, float]:
    """Return the weights of one pair's difference minus another's; arms may be in both."""
    weights: dict[str, float] = {}
    for arm, weight in ((high, 1.0), (low, -1.0), (than_high, -1.0), (than_low, 1.0)):
        weights[arm] = weights.get(arm, 0.0) + weight
    return weights
