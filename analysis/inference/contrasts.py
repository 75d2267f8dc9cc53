"""Contrasts of arms that ran with the same seeds.

Arms x seeds is a blocked design: value = arm + seed + error. All arms estimate one error, with (A - 1)(S - 1) degrees
of freedom where a single pair of arms has S - 1. Letters: A arms, S seeds.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import stats

from aimv2.analysis.inference.intervals import (
    LEVEL,
    NO_ESTIMATE,
    NOT_MEASURED,
    Covers,
    ErrorSource,
    Estimate,
    bonferroni,
    is_rounding,
    mean_interval,
    percent,
    size_of,
    with_interval,
)

# All from the simulations in tests/analysis/test_error_rates.py.
MIN_POOLED = 8  # seeds; of fewer, no test finds the arms that spread more than others, so each has its own error
WIDER = 0.05  # level of the test after which a comparison uses its own error if that gives a wider interval
APART = 0.01  # level, shared by the arms, of the test after which an arm's error leaves the pool
# Eigenvalues are 0, or those of connected arms, far from rounding, as a share of the largest.
RANK_TOLERANCE = 1e-8
SAME_CHANCE = 1 + 1e-6  # ratio of two p-values below which rounding or the order of arms would choose one of them


class Blocks:
    """The least-squares fit of arms and seeds to values [S, A], NaN where a run is missing; seeds are fixed blocks.

    ``effect_A`` are the arms' effects, with the sum 0 in each set of arms that seeds connect: only contrasts within one
    count. ``covariance_AA`` is theirs in units of the error's variance. ``seed_effect_S`` is what a seed adds to its
    arms. ``residual`` is the sum of squares with ``df`` degrees of freedom; 0 if it is only rounding. ``variance`` is
    the error's.

    Source: the intrablock analysis of Yates 1940; Cochran and Cox 1957, section 9.4.
    """

    def __init__(self, value_SA: np.ndarray) -> None:
        is_there_SA = ~np.isnan(value_SA)
        there_SA = is_there_SA.astype(float)
        per_seed_S1 = np.maximum(there_SA.sum(axis=1, keepdims=True), 1)

        def seed_means(value_SA: np.ndarray) -> np.ndarray:
            return np.asarray(np.where(is_there_SA, value_SA, 0).sum(axis=1, keepdims=True) / per_seed_S1)

        def within_seeds(value_SA: np.ndarray) -> np.ndarray:
            return np.where(is_there_SA, value_SA - seed_means(value_SA), 0)

        # Twice, as the first time leaves the rounding of a mean that is large beside the differences.
        centred_SA = within_seeds(within_seeds(value_SA))
        # The normal equations once seeds are eliminated; they leave a constant open in each set of connected arms.
        information_AA = np.diag(there_SA.sum(axis=0)) - there_SA.T @ (there_SA / per_seed_S1)
        rank = np.linalg.matrix_rank(information_AA, rtol=RANK_TOLERANCE, hermitian=True)
        self.covariance_AA = np.linalg.pinv(information_AA, rcond=RANK_TOLERANCE, hermitian=True)
        self.effect_A = self.covariance_AA @ centred_SA.sum(axis=0)
        self.seed_effect_S = seed_means(value_SA - self.effect_A)[:, 0]
        self.df = int(there_SA.sum() - np.count_nonzero(is_there_SA.any(axis=1)) - rank)
        residual = float((within_seeds(centred_SA - self.effect_A) ** 2).sum())
        has_spread = self.df > 0 and not is_rounding(math.sqrt(residual / self.df), size_of(value_SA))
        self.residual = residual if has_spread else 0.0
        self.variance = self.residual / self.df if self.df else 0.0


class RandomSeeds(Blocks):
    """The same fit if seeds are drawn at random, so that those of one arm alone count too: more seeds of the baseline
    narrow every comparison with it.

    The variance over seeds, in units of the error's, is that of all values around the means of their arms, less the
    error's. It is an estimate, so ``df`` is at most the number of seeds less one. Effects have no fixed sum.

    Source: recovery of interblock information, Yates 1940; generalised least squares.
    """

    def __init__(self, value_SA: np.ndarray) -> None:
        super().__init__(value_SA)
        is_there_SA = ~np.isnan(value_SA)
        there_SA = is_there_SA.astype(float)
        per_arm_A, per_seed_S1 = there_SA.sum(axis=0), there_SA.sum(axis=1, keepdims=True)
        num_arms = np.count_nonzero(per_arm_A)  # with values
        centred_SA = np.where(is_there_SA, value_SA - np.nanmean(value_SA), 0)
        around_SA = np.where(is_there_SA, centred_SA - centred_SA.sum(axis=0) / np.maximum(per_arm_A, 1), 0)
        variance = float((around_SA**2).sum()) / (per_arm_A.sum() - num_arms)
        ratio = max(variance / self.variance - 1, 0.0)
        # The inverse covariance of a seed's values subtracts this share of their sum from each.
        share_S1 = ratio / (1 + ratio * per_seed_S1)
        information_AA = np.diag(per_arm_A) - there_SA.T @ (there_SA * share_S1)
        self.covariance_AA = np.linalg.pinv(information_AA, rcond=RANK_TOLERANCE, hermitian=True)
        weighted_SA = there_SA * (centred_SA - share_S1 * centred_SA.sum(axis=1, keepdims=True))
        self.effect_A = self.covariance_AA @ weighted_SA.sum(axis=0)
        self.df = min(self.df, int(np.count_nonzero(per_seed_S1)) - 1)


def _fit(value_SA: np.ndarray) -> Blocks:
    """Return the fit with seeds at random if some have one arm alone, of which fixed seeds learn nothing."""
    fixed, per_seed_S = Blocks(value_SA), (~np.isnan(value_SA)).sum(axis=1)
    return RandomSeeds(value_SA) if fixed.residual and (per_seed_S == 1).any() else fixed


@dataclass(frozen=True)
class Spreads:
    """Arms, by number, whose spread is larger than that of the others, and those that would spoil the pooled error."""

    wider: frozenset[int]
    apart: frozenset[int]


def spreads(value_SA: np.ndarray) -> Spreads:
    """Compare every arm's spread with that of the others, and set apart those that spread most, at most half of them.

    The arm that spreads most is left out, one at a time; arms with the same values leave together. Noisy arms mask one
    another: the first may not differ from a rest in which the others still are. So every arm left out up to the last
    significant test is apart (adapted from generalized ESD, Rosner 1983).
    """
    arms, half = list(range(value_SA.shape[1])), value_SA.shape[1] / 2
    wider, worst = list[set[int]](), list[set[int]]()  # by step
    num_apart = 0  # steps up to the last significant test
    while len(arms) > 2 and len(arms) >= half:
        whole = Blocks(value_SA[:, arms])
        chances = {arm: _chance(whole, Blocks(value_SA[:, [other for other in arms if other != arm]])) for arm in arms}
        smallest = min(chances.values())
        wider.append({arm for arm, chance in chances.items() if chance < WIDER})
        worst.append({arm for arm, chance in chances.items() if chance <= smallest * SAME_CHANCE})
        if smallest < APART / len(arms) and len(arms) - len(worst[-1]) >= half:
            num_apart = len(worst)
        if not worst[-1]:  # chances are NaN, as of values whose squares overflow
            break
        arms = [arm for arm in arms if arm not in worst[-1]]
    return Spreads(frozenset().union(*wider[: num_apart + 1]), frozenset().union(*worst[:num_apart]))


def _chance(whole: Blocks, others: Blocks) -> float:
    """Return the p-value of the hypothesis that the arm left out of ``others`` spreads no more than they do.

    The arm's part of the residual and the rest are independent; their ratio has an F distribution if spreads are equal.
    """
    df, residual = whole.df - others.df, whole.residual - others.residual
    if df < 1 or others.df < 1 or others.residual <= 0:
        return 1.0
    return float(stats.f.sf(residual / df / (others.residual / others.df), df, others.df))


class SharedError:
    """A metric of a study's arms, and the error that they share. Values have a row per seed and a column per arm,
    without controls; NaN where a run is missing. Arms in ``own``, such as rivals, are known to spread otherwise."""

    def __init__(self, values: pd.DataFrame, own: Collection[str] = ()) -> None:
        self._number = {str(arm): number for number, arm in enumerate(values)}
        self._value_SA = values.to_numpy(dtype=float)
        alike = [number for arm, number in self._number.items() if arm not in own]
        found = spreads(self._value_SA[:, alike])
        self._wider = frozenset(alike[place] for place in found.wider)
        pooled = [number for place, number in enumerate(alike) if place not in found.apart]
        self._place = {number: place for place, number in enumerate(pooled)}
        self._pool = _fit(self._value_SA[:, pooled])

    def contrast(self, arm: str, other: str, level: float = LEVEL) -> Estimate:
        """Return one arm minus another."""
        return self.contrasts([arm], other, level)[arm]

    def combination(self, weights: Mapping[str, float], level: float = LEVEL) -> Estimate:
        """Return a sum of arms, whose weights add up to 0, with an interval of its own."""
        weights = {arm: weight for arm, weight in weights.items() if weight}
        if not weights or not set(weights) <= set(self._number):
            return NO_ESTIMATE
        pooled = replace(self._pooled(weights), level=level) if self._is_pooled(weights) else None
        return self._wider_of(pooled, weights, level)

    def contrasts(self, arms: Sequence[str], other: str, level: float = LEVEL) -> dict[str, Estimate]:
        """Return several arms minus one other; the intervals hold together with ``level``.

        Arms with the pooled error have Dunnett intervals. An arm with a larger spread has its own paired interval. Each
        arm has an equal share of the error rate, and those in the pool use theirs together.
        """
        together = [arm for arm in arms if self._is_pooled((arm, other))]
        level_together = 1 - (1 - level) * len(together) / max(len(arms), 1)
        correlation, estimates = self._smallest_correlation(together, other), {}
        for arm in arms:
            weights, pooled = {arm: 1.0, other: -1.0}, None
            if arm in together:
                family = len(together)
                pooled = replace(self._pooled(weights), level=level_together, family=family, correlation=correlation)
            estimates[arm] = self._wider_of(pooled, weights, bonferroni(len(arms), level))
        return estimates

    def _wider_of(self, pooled: Estimate | None, weights: Mapping[str, float], level: float) -> Estimate:
        """Return the estimate with the pooled error, or with its own if an arm's spread makes that one wider."""
        candidates = [pooled] if pooled else []
        if not pooled or {self._number[arm] for arm in weights} & self._wider:
            candidates.append(self._own(weights, level))
        return max(candidates, key=lambda estimate: np.nan_to_num(estimate.half_width))

    def _is_pooled(self, arms: Collection[str]) -> bool:
        """True if the pool has an error for contrasts of the arms, and they share enough seeds."""
        if not {self._number.get(arm) for arm in arms} <= set(self._place) or self._num_shared(arms) < MIN_POOLED:
            return False
        return self._pool.df > 0 and self._pool.residual > 0

    def _pooled(self, weights: Mapping[str, float]) -> Estimate:
        pool, weight_A = self._pool, self._weight_A(weights)
        error = float(np.sqrt(weight_A @ pool.covariance_AA @ weight_A * pool.variance))
        source: ErrorSource = "pooled" if len(self._place) > 2 else "own"
        return Estimate(float(weight_A @ pool.effect_A), error, pool.df, self._num_shared(weights), error_from=source)

    def _own(self, weights: Mapping[str, float], level: float) -> Estimate:
        """Return the mean of the weighted sums by seed, with their own error."""
        if not set(weights) <= set(self._number):
            return NO_ESTIMATE
        columns = [self._number[arm] for arm in weights]
        part_SA = self._value_SA[:, columns] * np.array(list(weights.values()))
        return mean_interval(part_SA.sum(axis=1), level, size=size_of(part_SA))

    def _num_shared(self, arms: Collection[str]) -> int:
        """Return the number of seeds that all these arms have."""
        columns = [self._number[arm] for arm in arms]
        return int(np.count_nonzero(~np.isnan(self._value_SA[:, columns]).any(axis=1)))

    def _weight_A(self, weights: Mapping[str, float]) -> np.ndarray:
        weight_A = np.zeros(len(self._place))
        for arm, weight in weights.items():
            weight_A[self._place[self._number[arm]]] += weight
        return weight_A

    def _smallest_correlation(self, arms: Sequence[str], other: str) -> float:
        """Return the smallest correlation of contrasts with one arm, 1/2 if no cell is missing, which is safe for all;
        rounded down so that critical values can be cached."""
        if len(arms) < 2:
            return 0.0
        weights = np.array([self._weight_A({arm: 1.0, other: -1.0}) for arm in arms])
        covariance = weights @ self._pool.covariance_AA @ weights.T
        scale = np.sqrt(np.diag(covariance))
        smallest = float((covariance / np.outer(scale, scale)).min())
        return max(math.floor(smallest * 100 + 1e-6) / 100, 0.0)


@dataclass(frozen=True)
class Bracket:
    """A difference of ranges that lies between two ends with a level; NaN if there is no interval."""

    mean: float  # the difference of the observed ranges, which noise biases; the bounds do not rest on it
    low: float
    high: float
    n: int  # the smallest number of seeds of the contrasts
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
        return with_interval(self.mean, self.low, self.high, form) if self.n else NOT_MEASURED

    @property
    def basis(self) -> str:
        """What the bounds rest on: level, seeds, error, and what they cover."""
        return (
            f"{percent(self.level, 2)} %, bounds of all contrasts, n = {self.n}, {self.error_from} error, covers seeds"
        )


NO_BRACKET = Bracket(math.nan, math.nan, math.nan, 0)


def range_difference(
    error: SharedError, arms: Sequence[str], than_arms: Sequence[str], level: float = LEVEL
) -> Bracket:
    """Return how much wider the range of some arms, the largest minus the smallest true mean, is than that of others.

    The range of observed means is too wide, because noise spreads arms that are equal. Bounds are therefore taken from
    contrasts, which are unbiased: the difference of two ranges is

        max over (i, j)  min over (k, l)  of  (mean_i - mean_j) - (mean_k - mean_l) ,

    with all ordered pairs of the one group and of the other. If simultaneous intervals hold all these contrasts, the
    same maximum of minima of their ends holds the difference of the ranges. The bounds are conservative.
    """
    share = bonferroni(num_contrasts(arms, than_arms), level)
    rows = [
        [error.combination(_weights(*pair, *than), share) for than in permutations(than_arms, 2)]
        for pair in permutations(arms, 2)
    ]
    contrasts = [contrast for row in rows for contrast in row]
    if not all(contrast.n for contrast in contrasts):
        return NO_BRACKET
    mean, low, high = (max(min(getattr(c, name) for c in row) for row in rows) for name in ("mean", "low", "high"))
    if not all(contrast.has_interval for contrast in contrasts):
        low = high = math.nan
    source: ErrorSource = "own" if any(contrast.error_from == "own" for contrast in contrasts) else "pooled"
    return Bracket(mean, low, high, min(contrast.n for contrast in contrasts), level, source)


def num_contrasts(arms: Sequence[str], than_arms: Sequence[str]) -> int:
    """Return the number of contrasts, up to their sign, whose intervals must hold together."""
    return len(arms) * (len(arms) - 1) * len(than_arms) * (len(than_arms) - 1) // 2


def _weights(high: str, low: str, than_high: str, than_low: str) -> dict[str, float]:
    """Return the weights of one pair's difference minus another's; arms may be in both."""
    weights: dict[str, float] = {}
    for arm, weight in ((high, 1.0), (low, -1.0), (than_high, -1.0), (than_low, 1.0)):
        weights[arm] = weights.get(arm, 0.0) + weight
    return weights
