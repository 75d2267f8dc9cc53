"""The part of an error that comes from the choice of evaluation items.

All runs are evaluated on the same items, so a difference between arms holds for other items only if items are random,
as seeds are. Letters: S seeds, N items.
"""

from dataclasses import replace

import numpy as np

from analysis.inference.intervals import Estimate, satterthwaite


def influence(total_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Return each item's part in a ratio of sums; the parts have the mean 0.

    The ratio is linearised around its value: a metric is sum(total) / sum(weight), such as nats over tokens.

    Args:
        total_N, weight_N: float [N].

    Source: Cochran 1977, section 6.4 (the ratio estimate).
    """
    ratio = total_N.sum() / weight_N.sum()
    return np.asarray((total_N - ratio * weight_N) / weight_N.mean())


def item_variance(difference_SN: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares of items and of the rest, and the variance that items add to the mean difference.

    Two-way crossed random effects: difference = mean + seed + item + rest. The mean square of items contains the rest,
    which the seeds' part of an error contains already, so the rest is subtracted.

    Args:
        difference_SN: float [S, N], paired differences by seed and item, S and N at least 2.

    Source: Searle, Casella and McCulloch 1992, chapter 4 (the estimates by analysis of variance).
    """
    num_seeds, num_items = difference_SN.shape
    by_item_N = difference_SN.mean(axis=0)
    by_seed_S1 = difference_SN.mean(axis=1, keepdims=True)
    rest_SN = difference_SN - by_item_N - by_seed_S1 + difference_SN.mean()
    items = num_seeds * float(by_item_N.var(ddof=1))
    rest = float((rest_SN**2).sum()) / ((num_seeds - 1) * (num_items - 1))
    return items, rest, (items - rest) / (num_seeds * num_items)


def with_items(estimate: Estimate, difference_SN: np.ndarray) -> Estimate:
    """Return the estimate of a difference with the items' variance added to that over seeds.

    Degrees of freedom are rounded down, so that critical values of many metrics are shared.
    """
    num_seeds, num_items = difference_SN.shape
    if not estimate.has_interval or num_seeds < 2 or num_items < 2:
        return estimate
    items, rest, added = item_variance(difference_SN)
    if added <= 0:
        return replace(estimate, covers="seeds and items")
    cells, rest_df = num_seeds * num_items, (num_seeds - 1) * (num_items - 1)
    parts = [estimate.error**2, items / cells, -rest / cells]
    df = max(int(satterthwaite(parts, [estimate.df, num_items - 1, rest_df])), 1)
    return replace(estimate, error=float(np.sqrt(sum(parts))), df=df, covers="seeds and items")
