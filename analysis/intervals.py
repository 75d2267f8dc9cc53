"""Intervals over seeds, differences, and what they show.

Not named ``statistics``: ``python analysis/report.py`` would hide the standard library's module of that name.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special, stats

LEVEL = 0.95
POWER = 0.8

Direction = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, over seeds, with Student's t interval.

    Attributes:
        error: the standard error; 0 if there is no interval, because there is one seed or no spread.
        df: degrees of freedom of the error.
        n: number of seeds; of two arms, the smaller number.
        level: the interval's confidence level.
        low, high: the interval's bounds; NaN if there is none.
    """

    mean: float
    error: float
    df: float
    n: int
    level: float = LEVEL

    @property
    def has_interval(self) -> bool:
        return self.error > 0

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def text(self, form: str = "+.3f") -> str:
        """Return mean and interval, or why there is none."""
        if not self.n:
            return "no shared seed"
        mean = format(self.mean, form)
        return f"{mean} {self.bounds(form)}" if self.has_interval else f"{mean} (no interval)"

    def bounds(self, form: str = "+.3f") -> str:
        """Return the interval, or that there is none."""
        return f"[{self.low:{form}}, {self.high:{form}}]" if self.has_interval else "no interval"

    @property
    def half_width(self) -> float:
        return float(stats.t.ppf((1 + self.level) / 2, self.df)) * self.error if self.has_interval else math.nan


NO_ESTIMATE = Estimate(math.nan, 0.0, 0, 0)


@dataclass(frozen=True)
class Finding:
    """The conclusion from the interval of a difference, given the equivalence margin.

    Attributes:
        direction: ``unclear`` if the interval includes 0.
        is_not_better, is_not_worse: True if an arm better, or worse, by the margin or more is ruled out.
        is_large: True if the difference is shown to be larger than the margin.
    """

    direction: Direction
    is_not_better: bool
    is_not_worse: bool
    is_large: bool

    @property
    def is_small(self) -> bool:
        """True if differences larger than the margin are ruled out on both sides."""
        return self.is_not_better and self.is_not_worse

    @property
    def word(self) -> str:
        """The finding in the words of reports."""
        if self.direction == "unclear":
            return "equivalent" if self.is_small else "inconclusive"
        return f"{self.direction}, within the margin" if self.is_small else self.direction


def mean_interval(values: pd.Series | np.ndarray, level: float = LEVEL) -> Estimate:
    """Return the mean with Student's t interval; missing values are left out."""
    present = np.asarray(values, dtype=float)
    present = present[~np.isnan(present)]
    if not len(present):
        return NO_ESTIMATE
    # No spread is no certainty: equal counts of a few images happen.
    error = float(stats.sem(present)) if len(present) > 1 else 0.0
    return Estimate(float(np.mean(present)), error, len(present) - 1, len(present), level)


def difference(one: pd.Series, other: pd.Series, *, is_paired: bool, level: float = LEVEL) -> Estimate:
    """Return the mean of one arm minus that of another; ``NO_ESTIMATE`` without the seeds for it.

    Args:
        one, other: a value per seed.
        is_paired: take the difference seed by seed, over the shared seeds; otherwise between the means.

    Source: Welch 1947 for the unpaired difference; the two variances may differ.
    """
    if is_paired:
        return mean_interval(one - other, level)
    first, second = mean_interval(one), mean_interval(other)
    n = min(first.n, second.n)
    if not n:
        return NO_ESTIMATE
    mean, error = first.mean - second.mean, math.hypot(first.error, second.error)
    if n < 2 or error == 0:
        return Estimate(mean, 0.0, 0, n, level)
    df = error**4 / (first.error**4 / first.df + second.error**4 / second.df)
    return Estimate(mean, error, df, n, level)


def simultaneous_level(num_comparisons: int, level: float = LEVEL) -> float:
    """Return the level of each interval at which all hold together with ``level`` (Bonferroni)."""
    return 1 - (1 - level) / max(num_comparisons, 1)


def judge(difference: Estimate, margin: float, *, lower_is_better: bool) -> Finding:
    """Return what a difference shows at its own level, 1 - alpha.

    Its direction is clear if the interval excludes 0. Each side is tested against the margin by a one-sided test at
    alpha. Both tests hold if the interval of level 1 - 2 alpha (90 % for one at 95 %) lies within the margin: the two
    one-sided tests of Schuirmann 1987.

    Args:
        difference: arm minus baseline; without an interval its bounds are NaN, and it shows nothing.
        margin: the equivalence margin, in the metric's unit.
    """
    one_sided = replace(difference, level=1 - 2 * (1 - difference.level))
    is_not_lower, is_not_higher = one_sided.low > -margin, one_sided.high < margin
    side: Direction = "better" if (difference.mean < 0) == lower_is_better else "worse"
    return Finding(
        side if difference.excludes_zero else "unclear",
        is_not_better=is_not_lower if lower_is_better else is_not_higher,
        is_not_worse=is_not_higher if lower_is_better else is_not_lower,
        is_large=difference.low > margin or difference.high < -margin,
    )


def detectable_difference(difference: Estimate, power: float = POWER) -> float:
    """Return the minimum detectable difference; NaN without an interval.

    It is the true difference whose interval excludes 0, on the correct side, with this probability, at the estimate's
    level, number of seeds and standard error.

    Source: the t statistic of a true difference has a noncentral t distribution (Cohen 1988, chapter 2).
    """
    if not difference.has_interval:
        return math.nan
    critical = stats.t.ppf((1 + difference.level) / 2, difference.df)
    return float(special.nctdtrinc(difference.df, 1 - power, critical)) * difference.error


def samples_to_reach(curve: pd.Series, loss: float) -> float:
    """Return the number of samples at which a curve first falls to a loss; NaN if it never does.

    The curve is linear between its points.

    Args:
        curve: a run's losses by samples, in their order.
    """
    samples, losses = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return math.nan
    last, first = below[0], max(below[0] - 1, 0)
    return float(np.interp(loss, losses[[last, first]], samples[[last, first]]))
