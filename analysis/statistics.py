"""Intervals over seeds, differences, and what may be concluded from them."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, stats

LEVEL = 0.95
POWER = 0.8

Direction = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, over seeds, with Student's t interval.

    Attributes:
        error: the standard error; 0 when there is no interval: one seed, or no spread at all.
        df: degrees of freedom of the error.
        n: seeds; of two arms, of the one that has fewer.
        level: of the interval.
        low, high: its bounds; NaN when there is none.
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
        return self.mean - self._half_width

    @property
    def high(self) -> float:
        return self.mean + self._half_width

    @property
    def excludes_zero(self) -> bool:
        return self.has_interval and not self.low <= 0 <= self.high

    @property
    def _half_width(self) -> float:
        return float(stats.t.ppf((1 + self.level) / 2, self.df)) * self.error if self.has_interval else math.nan


@dataclass(frozen=True)
class Found:
    """What an interval shows of an arm, against what would matter.

    Attributes:
        direction: on which side of 0 the difference is, where that is clear.
        is_not_better, is_not_worse: whether it is shown not to be better, or worse, by as much as matters.
        is_large: whether it is shown to be one that matters.
    """

    direction: Direction
    is_not_better: bool
    is_not_worse: bool
    is_large: bool

    @property
    def is_small(self) -> bool:
        """Whether a difference that matters is ruled out on both sides."""
        return self.is_not_better and self.is_not_worse

    @property
    def word(self) -> str:
        if self.direction == "unclear":
            return "equivalent" if self.is_small else "undecided"
        return f"smaller than matters: {self.direction}" if self.is_small else f"different: {self.direction}"


NOTHING_FOUND = Found("unclear", is_not_better=False, is_not_worse=False, is_large=False)


def mean_interval(values: np.ndarray, level: float = LEVEL) -> Estimate:
    """Mean and Student's t interval."""
    values = np.asarray(values, dtype=float)
    # No spread at all is no proof of certainty: equal counts of few images happen.
    error = float(stats.sem(values)) if len(values) > 1 else 0.0
    return Estimate(float(np.mean(values)), error, len(values) - 1, len(values), level)


def paired_difference(values: pd.DataFrame, arm: str, baseline: str, level: float = LEVEL) -> Estimate | None:
    """Arm minus baseline over the seeds that both have; None when they share none.

    Args:
        values: a row per seed, a column per arm, as ``Evidence.values`` gives it.
    """
    if arm not in values or baseline not in values:
        return None
    difference = (values[arm] - values[baseline]).dropna().to_numpy()
    return mean_interval(difference, level) if len(difference) else None


def unpaired_difference(values: pd.DataFrame, arm: str, baseline: str, level: float = LEVEL) -> Estimate | None:
    """Mean of the arm minus mean of the baseline, each over its own seeds; None when one has none.

    Source: Welch 1947, who lets the two spreads differ.
    """
    if arm not in values or baseline not in values:
        return None
    samples = [values[name].dropna().to_numpy() for name in (arm, baseline)]
    if not all(map(len, samples)):
        return None
    one, other = map(mean_interval, samples)
    mean, n = one.mean - other.mean, min(one.n, other.n)
    error = math.hypot(one.error, other.error)
    if n < 2 or error == 0:
        return Estimate(mean, 0.0, 0, n, level)
    df = error**4 / (one.error**4 / one.df + other.error**4 / other.df)
    return Estimate(mean, error, df, n, level)


def difference(
    values: pd.DataFrame, arm: str, baseline: str, *, is_paired: bool, level: float = LEVEL
) -> Estimate | None:
    """Arm minus baseline, seed by seed or of the means."""
    return (paired_difference if is_paired else unpaired_difference)(values, arm, baseline, level)


def simultaneous_level(num_comparisons: int, level: float = LEVEL) -> float:
    """The level each of several intervals needs for all to hold at once with ``level`` (Bonferroni)."""
    return 1 - (1 - level) / max(num_comparisons, 1)


def direction(difference: Estimate, *, lower_is_better: bool) -> Direction:
    """Whether an arm is better or worse than the baseline, as far as the interval tells."""
    if not difference.excludes_zero:
        return "unclear"
    return "better" if (difference.mean < 0) == lower_is_better else "worse"


def judge(difference: Estimate | None, matters: float, *, lower_is_better: bool) -> Found:
    """What a difference shows at its own level, 1 - alpha.

    It is clear when the interval leaves 0 out. It is shown to be smaller than ``matters`` on one side by a one-sided
    test at alpha, so on both when the interval of level 1 - 2 alpha (90 % for one at 95 %) lies between
    ``-matters`` and ``matters``: the two one-sided tests of Schuirmann 1987.

    Args:
        difference: arm minus baseline; without an interval, or None, it shows nothing.
        matters: the smallest difference that does, in the metric's unit.
    """
    if difference is None or not difference.has_interval:
        return NOTHING_FOUND
    one_sided = replace(difference, level=1 - 2 * (1 - difference.level))
    is_not_lower, is_not_higher = one_sided.low > -matters, one_sided.high < matters
    return Found(
        direction(difference, lower_is_better=lower_is_better),
        is_not_better=is_not_lower if lower_is_better else is_not_higher,
        is_not_worse=is_not_higher if lower_is_better else is_not_lower,
        is_large=difference.low > matters or difference.high < -matters,
    )


def detectable_difference(difference: Estimate, power: float = POWER) -> float:
    """The smallest true difference whose interval would have left 0 out, on its own side, with this probability, at the
    difference's own level, seeds and spread; NaN without an interval.

    Source: the t statistic of a true difference is noncentral t (Cohen 1988, chapter 2).
    """
    if not difference.has_interval:
        return math.nan
    critical = float(stats.t.ppf((1 + difference.level) / 2, difference.df))
    upper = critical + 1
    while stats.nct.sf(critical, difference.df, upper) < power:
        upper *= 2
    errors = optimize.brentq(lambda shift: stats.nct.sf(critical, difference.df, shift) - power, 0, upper)
    return float(errors) * difference.error


def samples_to_reach(curve: pd.DataFrame, loss: float, column: str) -> float:
    """Samples at which a curve first comes down to a loss, linear between its points; NaN if it never does.

    Args:
        curve: one run's rows, with ``samples`` and the loss in ``column``; rows without it are skipped.
    """
    points = curve.dropna(subset=[column]).sort_values("samples")
    samples, losses = points["samples"].to_numpy(dtype=float), points[column].to_numpy(dtype=float)
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return float("nan")
    i = below[0]
    if i == 0:
        return float(samples[0])
    share = (losses[i - 1] - loss) / (losses[i - 1] - losses[i])
    return float(samples[i - 1] + share * (samples[i] - samples[i - 1]))
