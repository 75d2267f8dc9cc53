"""How far a small scale predicts a larger one. Letters: N draws, S seeds, A arms."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from aimv2.analysis.inference.intervals import ROUNDING, mean_interval, percentiles, size_of, with_interval

NUM_DRAWS = 1000
MIN_ARMS = 3  # a rank correlation of two is always 1 or -1


@dataclass(frozen=True)
class Share:
    """A share or a correlation with its percentile interval over seeds; NaN where there is none."""

    value: float
    low: float
    high: float
    n: int  # what it is a share or correlation of: pairs, arms or runs
    num_seeds: int  # seeds that were resampled, those of the scale with fewer

    def text(self, form: str = ".2f") -> str:
        return "no value" if math.isnan(self.value) else with_interval(self.value, self.low, self.high, form)


@dataclass(frozen=True)
class Agreement:
    """How the order of arms at a small scale agrees with that at a larger one."""

    small: str
    large: str
    accuracy: Share  # decision accuracy, the share of pairs of arms in the same order at both scales; a tie counts half
    # the same over pairs that the larger scale tells apart: the 95 % interval of their paired difference over seeds
    # excludes zero
    distinguishable: Share
    rank: Share  # Spearman's correlation of arm means


def agreements(scales: Mapping[str, pd.DataFrame], *, num_draws: int = NUM_DRAWS) -> list[Agreement]:
    """Return the agreement of each scale with the largest of two arms or more; scales are from small to large, a metric
    with a row per seed and a column per arm."""
    names = [name for name, values in scales.items() if values.notna().any().sum() > 1]
    return [
        agreement(scales[small], scales[names[-1]], names=(small, names[-1]), num_draws=num_draws)
        for small in names[:-1]
    ]


def agreement(
    small_SA: pd.DataFrame,
    large_SA: pd.DataFrame,
    *,
    names: tuple[str, str] = ("small", "large"),
    num_draws: int = NUM_DRAWS,
) -> Agreement:
    """Compare the order of the arms that both scales have.

    Intervals resample seeds as blocks over arms and over both scales; scales that share no seed are resampled
    separately. Draws in which an arm has no run are left out. Resampling adds noise to noise, so that intervals lie
    lower than the value where arms are close. Which pairs are distinguishable is decided once, not in every draw.

    Source: decision accuracy of Magnusson et al. 2025 (DataDecide, arXiv 2504.11393).
    """
    small_SA, large_SA = (table.dropna(axis=1, how="all") for table in (small_SA, large_SA))
    arms = [arm for arm in small_SA.columns if arm in large_SA.columns]
    small_SA, large_SA = small_SA[arms], large_SA[arms]
    pairs = np.array(list(combinations(range(len(arms)), 2)), dtype=int).reshape(-1, 2)
    columns = [(large_SA.iloc[:, first], large_SA.iloc[:, second]) for first, second in pairs]
    differences = [mean_interval(first - second, size=size_of(first, second)) for first, second in columns]
    is_told = np.array([difference.excludes_zero for difference in differences], dtype=bool)
    num_seeds = min(len(small_SA), len(large_SA))
    small_NA, large_NA = map(_mean, _drawn(small_SA, large_SA, num_draws if num_seeds > 1 else 0))
    small_order, large_order = (
        np.sign(mean_NA[:, pairs[:, 0]] - mean_NA[:, pairs[:, 1]]) for mean_NA in (small_NA, large_NA)
    )
    agrees = (small_order * large_order + 1) / 2  # 1 in the same order, 0 in the opposite one, 1/2 with a tie
    lacks_arms = np.isnan(small_NA + large_NA).any(axis=1)
    return Agreement(
        *names,
        accuracy=_share(_row_means(agrees), len(pairs), num_seeds),
        distinguishable=_share(_row_means(agrees[:, is_told]), int(is_told.sum()), num_seeds),
        rank=_share(np.where(lacks_arms, math.nan, _spearman(small_NA, large_NA)), len(arms), num_seeds),
    )


def _drawn(first_SA: pd.DataFrame, second_SA: pd.DataFrame, num_draws: int) -> list[np.ndarray]:
    """Return both tables with all seeds, and then with seeds that are drawn with replacement, as [N, S, A]."""
    rng = np.random.default_rng(0)
    is_paired = bool(first_SA.index.isin(second_SA.index).any())
    if is_paired:
        first_SA, second_SA = first_SA.align(second_SA, axis=0)
    picked = [(np.arange(len(first_SA)), np.arange(len(second_SA)))]
    for _ in range(num_draws):
        rows = rng.integers(len(first_SA), size=len(first_SA))
        picked.append((rows, rows if is_paired else rng.integers(len(second_SA), size=len(second_SA))))
    return [
        table.to_numpy(dtype=float)[np.array(rows)]
        for table, rows in zip((first_SA, second_SA), zip(*picked, strict=True), strict=True)
    ]


def _share(value_N: np.ndarray, n: int, num_seeds: int) -> Share:
    """Return the first value, that of all seeds, with the percentile interval of the others."""
    value, *draws = value_N
    low, high = (math.nan, math.nan) if math.isnan(value) else percentiles(np.array(draws))
    return Share(float(value), low, high, n, num_seeds)


def _mean(values_NSA: np.ndarray) -> np.ndarray:
    """Return each arm's mean over the seeds that it has, equal ones ``merged``; NaN for an arm without any."""
    is_there = ~np.isnan(values_NSA)
    total_NA, count_NA = np.where(is_there, values_NSA, 0).sum(axis=1), is_there.sum(axis=1)
    return merged(np.where(count_NA > 0, total_NA / np.maximum(count_NA, 1), math.nan))


def _row_means(agrees: np.ndarray) -> np.ndarray:
    return np.asarray(agrees.mean(axis=1)) if agrees.shape[1] else np.full(len(agrees), math.nan)


def merged(values: np.ndarray) -> np.ndarray:
    """Return rows of values, those equal that differ by no more than rounding, so that ties are found; NaN stays."""
    order = np.argsort(values, axis=-1)
    ascending = np.take_along_axis(values, order, axis=-1)
    size = np.nanmax(np.abs(values), axis=-1, keepdims=True, initial=0.0)
    is_new = ~(np.diff(ascending, axis=-1, prepend=-math.inf) <= ROUNDING * size)  # true of NaN
    first = np.maximum.accumulate(np.where(is_new, np.arange(values.shape[-1]), 0), axis=-1)
    merged_values = np.empty(values.shape)
    np.put_along_axis(merged_values, order, np.take_along_axis(ascending, first, axis=-1), axis=-1)
    return merged_values


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row; NaN for too few values or without spread; 0 if it is rounding."""
    is_absent = np.isnan(first + second)
    ranks = [pd.DataFrame(values).rank(axis=1).mask(is_absent) for values in (first, second)]
    has_correlation = ranks[0].count(axis=1) >= MIN_ARMS
    for table in ranks:
        has_correlation &= table.min(axis=1) < table.max(axis=1)
    correlation = ranks[0].corrwith(ranks[1], axis=1).clip(-1, 1)
    return correlation.mask(correlation.abs() <= ROUNDING, 0.0).where(has_correlation).to_numpy()
