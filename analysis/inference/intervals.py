"""Estimates with intervals, alone or simultaneous, and what they could detect with so many seeds.

The error of a difference has two parts: more seeds reduce one, and the choice of evaluation items adds the other.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Self

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

LEVEL = 0.95
POWER = 0.8
NOT_MEASURED: Literal["not measured"] = "not measured"
MIN_SEEDS = 3  # of an arm's mean with an interval: from 2 seeds it is 25.4 standard errors wide
MIN_TRIMMED = 8  # seeds of a trimmed mean
UNLIMITED = (-math.inf, math.inf)
# A spread is none if it is smaller than this share of the values. Processors agree on a metric to about 1e-13, and the
# smallest step of a metric from float32 numbers is 6e-8: no spread comes near this number from either side.
ROUNDING = 1e-11
SPREAD_TEST_COST = 0.4  # tests/analysis/test_error_rates.py: the power is then the predicted one
SMALLEST_SHARE = 1e-6  # of the seeds in an error's square; ``Estimate`` keeps nine digits of an error
MAX_SEARCHED = 2**24  # seeds; the noncentral t distribution is still accurate

Covers = Literal["seeds", "seeds and items"]
ErrorSource = Literal["pooled", "own"]


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, with an interval from Student's t or the multivariate t."""

    mean: float
    error: float  # the standard error; 0 if there is no interval, because there is one seed or no spread
    df: float
    n: int  # number of seeds; of two arms, the smaller number
    level: float = LEVEL  # the confidence level; of the whole family if there is one
    # family, correlation: the number of simultaneous estimates, and the correlation of each two of them
    family: int = 1
    correlation: float = 0.0
    covers: Covers = "seeds"  # what the interval treats as random
    error_from: ErrorSource = "own"  # ``pooled`` if the error is shared by arms
    items_error: float = 0.0  # the part of the error that the choice of items adds; the squares of the parts add up
    # possible values, at which the interval is cut without a change of its level
    limits: tuple[float, float] = UNLIMITED

    def __post_init__(self) -> None:
        """Round mean and error to 2^-30 of the error or less: processors add in different orders, and a mean that is 0,
        or between two printed numbers, would have other digits on each of them."""
        if self.error > 0 and math.isfinite(self.mean):
            step = 2.0 ** (math.floor(math.log2(self.error)) - 30)
            for name, value in (("mean", self.mean), ("error", self.error)):
                object.__setattr__(self, name, round(value / step) * step + 0.0)  # no negative zero

    @property
    def has_interval(self) -> bool:
        return self.error > 0

    @property
    def critical(self) -> float:
        """Half the interval's width in standard errors; NaN without an interval."""
        return critical_value(self.level, self.df, self.family, self.correlation) if self.has_interval else math.nan

    @property
    def half_width(self) -> float:
        return self.critical * self.error

    @property
    def low(self) -> float:
        return max(self.mean - self.half_width, self.limits[0])  # in this order, NaN without an interval

    @property
    def high(self) -> float:
        return min(self.mean + self.half_width, self.limits[1])

    @property
    def one_sided(self) -> "Estimate":
        """The estimate with an interval of which each end alone holds with the level (Schuirmann 1987)."""
        return replace(self, level=1 - 2 * (1 - self.level))

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def text(self, form: str = "+.3f") -> str:
        return with_interval(self.mean, self.low, self.high, form) if self.n else NOT_MEASURED

    @property
    def basis(self) -> str:
        """What the interval rests on: level, seeds, error, and what it covers; without one, the seeds."""
        if not self.has_interval:
            return f"n = {self.n}, no interval"
        return f"{percent(self.level, 2)} %, n = {self.n}, {self.error_from} error, covers {self.covers}"


NO_ESTIMATE = Estimate(math.nan, 0.0, 0, 0)


def with_interval(value: float, low: float, high: float, form: str) -> str:
    """Return a value with its interval, or, if the ends are NaN, that there is none."""
    form = form.replace("+", "+z") if "+" in form else f"z{form}"  # no negative zero
    return f"{value:{form}} " + ("(no interval)" if math.isnan(low) else f"[{low:{form}}, {high:{form}}]")


def percent(level: float, decimals: int = 4) -> str:
    """Return a level in per cent without zeros at its end, such as 97.5; with more decimals if it were 100."""
    while level < 1 and round(100 * level, decimals) == 100:
        decimals += 1
    return f"{100 * level:.{decimals}f}".rstrip("0").rstrip(".")


@lru_cache(maxsize=4096)
def critical_value(level: float, df: float, family: int = 1, correlation: float = 0.0) -> float:
    """Return c such that all |t| of a family, which share an error, stay below c with a probability of ``level``.

    The correlation of each two is not negative: 1/2 for arms with as many seeds as their baseline. Given the baseline's
    mean and the error, the estimates are independent, so two sums integrate over both (Dunnett 1955).
    """
    alone = float(stats.t.ppf((1 + level) / 2, df))
    if family < 2:
        return alone
    nodes, weights = np.polynomial.legendre.leggauss(200)
    mean_M, most = 8 * nodes, float(stats.chi.isf(1e-12, df)) / math.sqrt(df)
    error_E = (nodes + 1) * most / 2
    mean_weight_M = 8 * weights * stats.norm.pdf(mean_M)
    error_weight_E = most / 2 * weights * stats.chi.pdf(error_E * math.sqrt(df), df) * math.sqrt(df)
    shared, rest = math.sqrt(correlation), math.sqrt(1 - correlation)

    def excess(critical: float) -> float:
        high_EM, low_EM = ((end * error_E[:, None] - shared * mean_M) / rest for end in (critical, -critical))
        inside_EM = (special.ndtr(high_EM) - special.ndtr(low_EM)) ** family
        return float(error_weight_E @ inside_EM @ mean_weight_M) - level

    largest = float(stats.t.ppf(1 - (1 - level) / 2 / family, df))  # Bonferroni's, valid whatever the correlations
    return float(optimize.brentq(excess, alone - 0.01, largest + 0.01, xtol=1e-12))


def size_of(*values: "pd.DataFrame | pd.Series[float] | np.ndarray") -> float:
    """Return the largest absolute value; 0 without any. Missing values are left out."""
    return max(float(np.nanmax(np.abs(np.asarray(array, dtype=float)), initial=0.0)) for array in values)


def is_rounding(spread: float | np.ndarray, size: float | np.ndarray) -> bool | np.ndarray:
    """True if a spread is no more than rounding leaves of equal values of this largest absolute size; elementwise."""
    return spread <= ROUNDING * size


def mean_interval(
    values: "pd.Series[float] | np.ndarray",
    level: float = LEVEL,
    limits: tuple[float, float] = UNLIMITED,
    *,
    size: float | None = None,
) -> Estimate:
    """Return the mean with Student's t interval; missing values are left out; ``size`` as in ``is_rounding``."""
    present = np.asarray(values, dtype=float)
    present = present[~np.isnan(present)]
    if not len(present):
        return NO_ESTIMATE
    error = float(np.std(present, ddof=1)) / math.sqrt(len(present)) if len(present) > 1 else 0.0
    if is_rounding(error, size_of(present) if size is None else size):
        error = 0.0  # no spread is no certainty: equal counts of a few images happen
    return Estimate(float(np.mean(present)), error, len(present) - 1, len(present), level, limits=limits)


def trimmed_mean(values: "pd.Series[float] | np.ndarray", level: float = LEVEL) -> Estimate:
    """Return the mean without the largest and the smallest fifth of the values, which no diverged seed reaches, with
    its interval; ``NO_ESTIMATE`` of fewer values than MIN_TRIMMED.

    Source: Tukey and McLaughlin 1963; the error is that of the winsorised values.
    """
    present = np.sort(np.asarray(values, dtype=float))
    present = present[~np.isnan(present)]
    if (n := len(present)) < MIN_TRIMMED:
        return NO_ESTIMATE
    cut = n // 5
    kept = n - 2 * cut
    spread = float(np.std(np.clip(present, present[cut], present[n - cut - 1]), ddof=1))
    error = 0.0 if is_rounding(spread, size_of(present)) else spread * math.sqrt((n - 1) / kept / (kept - 1))
    return Estimate(float(np.mean(present[cut : n - cut])), error, kept - 1, n, level)


def percentiles(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the percentile interval of the values that are not NaN; NaN without any."""
    present = values[~np.isnan(values)]
    if not len(present):
        return math.nan, math.nan
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def arm_mean(values: "pd.Series[float] | np.ndarray", limits: tuple[float, float] = UNLIMITED) -> Estimate:
    """Return the mean of an arm over seeds for tables and figures: without an interval below MIN_SEEDS seeds."""
    mean = mean_interval(values, limits=limits)
    return replace(mean, error=0.0) if mean.has_interval and mean.n < MIN_SEEDS else mean


def unpaired_difference(values: "pd.Series[float]", others: "pd.Series[float]", level: float = LEVEL) -> Estimate:
    """Return the difference of two means of other seeds (Welch 1947); ``NO_ESTIMATE`` if one has no value."""
    first, second = mean_interval(values), mean_interval(others)
    n = min(first.n, second.n)
    if not n:
        return NO_ESTIMATE
    mean, error = first.mean - second.mean, math.hypot(first.error, second.error)
    if n < 2 or error == 0:
        return Estimate(mean, 0.0, 0, n, level)
    df = satterthwaite([first.error**2, second.error**2], [first.df, second.df])
    return Estimate(mean, error, df, n, level)


def satterthwaite(parts: Sequence[float], dfs: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of independent variances, some subtracted (Satterthwaite 1946)."""
    return sum(parts) ** 2 / sum(part**2 / df for part, df in zip(parts, dfs, strict=True))


def bonferroni(num_families: int, level: float = LEVEL) -> float:
    """Return the level of each family of intervals at which all hold together with ``level``."""
    return 1 - (1 - level) / max(num_families, 1)


def detectable_difference(difference: Estimate) -> float:
    """Return the true difference whose interval excludes 0 on the correct side with 80 % power; NaN if there is none.

    With a pooled error, the test of spreads sometimes gives a comparison a wider interval. By simulation, that costs as
    much as a difference larger by 0.4 / n. Source: the noncentral t distribution (Cohen 1988, chapter 2).
    """
    if not difference.has_interval:
        return math.nan
    cost = 1 + SPREAD_TEST_COST / difference.n if difference.error_from == "pooled" else 1
    return cost * float(special.nctdtrinc(difference.df, 1 - POWER, difference.critical)) * difference.error


@dataclass(frozen=True)
class Noise:
    """The two parts of the error of a difference: error^2 = seeds^2 / n + items^2."""

    seeds: float  # the standard deviation of the difference over seeds
    items: float = 0.0  # the standard error from the choice of items; 0 if the interval does not cover it

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        seeds = estimate.error**2 - estimate.items_error**2
        # Of an error that is all of items, rounding is left, and no degrees of freedom to count.
        is_there = seeds > SMALLEST_SHARE * estimate.error**2
        return cls(math.sqrt(estimate.n * seeds) if is_there else 0.0, estimate.items_error)

    def error(self, num_seeds: int) -> float:
        """Return the standard error with so many seeds."""
        return math.hypot(self.seeds / math.sqrt(num_seeds), self.items)

    def df(self, num_seeds: int) -> float:
        """Return the degrees of freedom of that error (Satterthwaite 1946), with the items' part known."""
        if not self.seeds:
            return math.inf
        share = self.error(num_seeds) ** 2 * num_seeds / self.seeds**2
        return (num_seeds - 1) * share**2


@dataclass(frozen=True)
class Aim:
    """What an interval must exclude: a value at a distance from the true difference, in the metric's unit."""

    distance: float
    alpha: float  # the probability with which that end of the interval may be wrong
    power: float = POWER  # the probability with which the value must be excluded

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
