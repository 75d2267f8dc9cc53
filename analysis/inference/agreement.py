"""How far a small scale predicts a larger one, and a loss an accuracy. Letters: N draws, S seeds, A arms."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from aimv2.analysis.inference.intervals import (
    is_rounding,
    mean_interval,
    merged,
    percentiles,
    size_of,
    sizes_of,
    with_interval,
)

NUM_DRAWS = 1000
MIN_ARMS = 3  # a rank correlation of two is always 1 or -1
Values = Mapping[str, np.ndarray]  # of each draw


@dataclass(frozen=True)
class Share:
    """A share or a correlation with its percentile interval over seeds; NaN where there is none.

    Attributes:
        n: what it is a share or correlation of: pairs, arms or runs.
        num_seeds: seeds that were resampled, those of the scale with fewer.
    """

    value: float
    low: float
    high: float
    n: int
    num_seeds: int

    def text(self, form: str = ".2f") -> str:
        """Return the value and its interval, or why there is none."""
        return "no value" if math.isnan(self.value) else with_interval(self.value, self.low, self.high, form)


@dataclass(frozen=True)
class Agreement:
    """How the order of arms at a small scale agrees with that at a larger one.

    Attributes:
        accuracy: decision accuracy, the share of pairs of arms in the same order at both scales; a tie counts half.
        distinguishable: the same over pairs that the larger scale tells apart: the 95 % interval of their paired
            difference over seeds excludes zero.
        rank: Spearman's correlation of arm means.
    """

    small: str
    large: str
    accuracy: Share
    distinguishable: Share
    rank: Share


def agreements(scales: Mapping[str, pd.DataFrame], *, num_draws: int = NUM_DRAWS) -> list[Agreement]:
    """Return the agreement of each scale with the largest of two arms or more, which small scales are run to predict.

    Args:
        scales: from small to large, a metric with a row per seed and a column per arm.
    """
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

    Intervals resample seeds as blocks over arms and over both scales, even if a seed has no runs at one of them. Scales
    that share no seed are resampled separately. Draws in which an arm has no run are left out. Resampling adds noise
    to noise, so that intervals lie lower than the value where arms are close. Which pairs are distinguishable is
    decided once, not in every draw.

    Source: decision accuracy of Magnusson et al. 2025 (DataDecide, arXiv 2504.11393).
    """
    small_SA, large_SA = (table.dropna(axis=1, how="all") for table in (small_SA, large_SA))
    arms = [arm for arm in small_SA.columns if arm in large_SA.columns]
    small_SA, large_SA = small_SA[arms], large_SA[arms]
    pairs = np.array(list(combinations(range(len(arms)), 2)), dtype=int).reshape(-1, 2)
    seen = [(large_SA.iloc[:, one], large_SA.iloc[:, other]) for one, other in pairs]
    is_told = np.array(
        [mean_interval(one - other, size=size_of(one, other)).excludes_zero for one, other in seen], dtype=bool
    )

    def statistics(small_NSA: np.ndarray, large_NSA: np.ndarray) -> Values:
        small_NA, large_NA = _mean(small_NSA), _mean(large_NSA)
        agrees = _same_order(small_NA, large_NA, pairs)
        lacks_arms = np.isnan(small_NA + large_NA).any(axis=1)
        return {
            "accuracy": _share_of(agrees),
            "distinguishable": _share_of(agrees[:, is_told]),
            "rank": np.where(lacks_arms, math.nan, _spearman(small_NA, large_NA)),
        }

    counts = {"accuracy": len(pairs), "distinguishable": int(is_told.sum()), "rank": len(arms)}
    small, large = names
    shares = _over_seeds(statistics, small_SA, large_SA, counts, num_draws)
    return Agreement(small=small, large=large, **shares)


def _over_seeds(
    statistics: Callable[[np.ndarray, np.ndarray], Values],
    one_SA: pd.DataFrame,
    other_SA: pd.DataFrame,
    counts: Mapping[str, int],
    num_draws: int,
) -> dict[str, Share]:
    """Return statistics with intervals from resampled seeds; a table with a single seed allows none."""
    rng, num_seeds = np.random.default_rng(0), min(len(one_SA), len(other_SA))
    is_paired = bool(one_SA.index.isin(other_SA.index).any())
    if is_paired:
        seeds = one_SA.index.union(other_SA.index)
        one_SA, other_SA = one_SA.reindex(seeds), other_SA.reindex(seeds)
    one, other = one_SA.to_numpy(dtype=float), other_SA.to_numpy(dtype=float)
    picked, also = [np.arange(len(one))], [np.arange(len(other))]  # all, and then the draws
    for _ in range(num_draws if num_seeds > 1 else 0):
        picked.append(rng.integers(len(one), size=len(one)))
        also.append(picked[-1] if is_paired else rng.integers(len(other), size=len(other)))
    found = statistics(one[np.array(picked)], other[np.array(also)])
    return {name: _share(float(values[0]), values[1:], counts[name], num_seeds) for name, values in found.items()}


def _mean(values_NSA: np.ndarray) -> np.ndarray:
    """Return each arm's mean over the seeds that it has, equal ones ``merged``; NaN for an arm without any."""
    is_there = ~np.isnan(values_NSA)
    total_NA, count_NA = np.where(is_there, values_NSA, 0).sum(axis=1), is_there.sum(axis=1)
    return merged(np.where(count_NA > 0, total_NA / np.maximum(count_NA, 1), math.nan))


def _share_of(agrees: np.ndarray) -> np.ndarray:
    """Return each draw's share of pairs in the same order; NaN without pairs."""
    return np.asarray(agrees.mean(axis=1)) if agrees.shape[1] else np.full(len(agrees), math.nan)


def _same_order(small_NA: np.ndarray, large_NA: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return per draw and pair 1 if both scales have the same order, 0 if the opposite one, 1/2 with a tie."""
    first, second = pairs.T
    product = np.sign(small_NA[:, first] - small_NA[:, second]) * np.sign(large_NA[:, first] - large_NA[:, second])
    return np.asarray((product + 1) / 2)


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return _correlation(*(stats.rankdata(values, axis=1, nan_policy="omit") for values in (one, other)))


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each draw; NaN for too few values or values without spread. 0 if it is rounding.

    Args:
        one, other: float [N, values]; NaN where missing.
    """
    is_there = ~np.isnan(one + other)
    count = is_there.sum(axis=1, keepdims=True)
    has_correlation, unit = count[:, 0] >= MIN_ARMS, []
    for values in (one, other):
        low, high = np.where(is_there, values, math.inf), np.where(is_there, values, -math.inf)
        has_correlation &= low.min(axis=1, initial=math.inf) < high.max(axis=1, initial=-math.inf)
        mean = np.where(is_there, values, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        centred = np.where(is_there, values - mean, 0)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        unit.append(centred / np.where(has_correlation[:, None], length, 1))
    product = np.clip((unit[0] * unit[1]).sum(axis=1), -1, 1)
    return np.where(has_correlation, np.where(is_rounding(np.abs(product), 1), 0.0, product), math.nan)


def _deviations(values_NSA: np.ndarray, mean_NA: np.ndarray) -> np.ndarray:
    """Return the deviations from arm means of all runs, float [N, runs], NaN where missing; 0 if they are rounding, as
    of one seed drawn several times."""
    deviations = (values_NSA - mean_NA[:, None]).reshape(len(values_NSA), -1)
    size = sizes_of(values_NSA.reshape(len(values_NSA), -1))
    return merged(np.where(is_rounding(np.abs(deviations), size), 0.0, deviations))


def _share(value: float, draws: np.ndarray, n: int, num_seeds: int) -> Share:
    low, high = (math.nan, math.nan) if math.isnan(value) else percentiles(draws)
    return Share(value, low, high, n, num_seeds)


@dataclass(frozen=True)
class Association:
    """How a loss goes with an accuracy.

    Attributes:
        across_pearson, across_spearman: of arm means: whether arms with a lower loss have a higher accuracy.
        within_pearson, within_spearman: of deviations from arm means: whether it holds for seeds of one arm.
    """

    across_pearson: Share
    across_spearman: Share
    within_pearson: Share
    within_spearman: Share


def association(table: pd.DataFrame, loss: str, accuracy: str, *, num_draws: int = NUM_DRAWS) -> Association:
    """Correlate two columns across arms and within them, with intervals over seeds as blocks.

    Args:
        table: a row per run with ``arm``, ``seed`` and both columns; runs that lack one are left out.
    """
    complete = table[["arm", "seed", loss, accuracy]].dropna().astype({loss: float, accuracy: float})
    loss_SA, accuracy_SA = (complete.pivot(index="seed", columns="arm", values=name) for name in (loss, accuracy))
    across, within = loss_SA.shape[1], len(complete)
    counts = {name: across if name.startswith("across") else within for name in Association.__dataclass_fields__}
    return Association(**_over_seeds(_correlations, loss_SA, accuracy_SA, counts, num_draws))


def _correlations(loss_NSA: np.ndarray, accuracy_NSA: np.ndarray) -> Values:
    one_NA, other_NA = _mean(loss_NSA), _mean(accuracy_NSA)
    one, other = _deviations(loss_NSA, one_NA), _deviations(accuracy_NSA, other_NA)
    return {
        "across_pearson": _correlation(one_NA, other_NA),
        "across_spearman": _spearman(one_NA, other_NA),
        "within_pearson": _correlation(one, other),
        "within_spearman": _spearman(one, other),
    }
