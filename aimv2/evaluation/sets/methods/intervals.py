"""95 % intervals over test images. Letters: N images, C classes."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, bootstrap

from aimv2.base import address

RESAMPLES = 9999
BATCH = 100  # resamples at once, which bounds the memory


class Estimate(NamedTuple):
    """A share, and its 95 % interval over test images; a training of another seed may differ more."""

    value: float
    low: float
    high: float


def share(is_right_N: np.ndarray) -> Estimate:
    """Return the share of images that are right, with Wilson's interval."""
    num_right, num = int(is_right_N.sum()), len(is_right_N)
    interval = binomtest(num_right, num).proportion_ci(method="wilson")
    return Estimate(num_right / num, float(interval.low), float(interval.high))


def mean_per_class(is_right_N: np.ndarray, class_N: np.ndarray) -> Estimate:
    """Return the mean over classes of the share that is right, with a bootstrap interval.

    Images are resampled within their class, where the number of right ones is then binomial.
    """
    _, place_N = np.unique(class_N, return_inverse=True)
    num_C = np.bincount(place_N)
    share_C = np.bincount(place_N, is_right_N) / num_C
    drawn = address.generator(seed=0, purpose="mean per class").binomial(num_C, share_C, (RESAMPLES, len(num_C)))
    low, high = np.quantile((drawn / num_C).mean(axis=1), [0.025, 0.975])
    return Estimate(float(share_C.mean()), float(low), float(high))


def ratio(total_N: np.ndarray, weight_N: np.ndarray) -> Estimate:
    """Return sum(total) / sum(weight) with a bootstrap interval that resamples images, such as hits by captions."""
    value = float(total_N.sum() / weight_N.sum())
    if len(total_N) < 2 or np.ptp(total_N / weight_N) == 0:  # all resamples are equal
        return Estimate(value, value, value)
    interval = bootstrap(
        (total_N, weight_N),
        lambda total, weight, axis: total.sum(axis=axis) / weight.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        method="percentile",
        random_state=address.generator(seed=0, purpose="ratio"),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))
