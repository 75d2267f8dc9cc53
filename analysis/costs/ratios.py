"""Timings as numbers of a report: percentiles, and medians of ratios with intervals. Letters: R rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from aimv2.analysis.inference.intervals import LEVEL, with_interval


@dataclass(frozen=True)
class Median:
    """The median over rounds of a number, such as the time of a call over AIMv2's in the same round.

    Attributes:
        low, high: the ends of its interval by order statistics, which covers at least 95 %; NaN with fewer than six
            rounds.
        n: rounds.
    """

    median: float
    low: float
    high: float
    n: int

    @property
    def text(self) -> str:
        return with_interval(self.median, self.low, self.high, ".2f")

    @property
    def includes_1(self) -> bool:
        """True if there is an interval and it does not tell the two times apart."""
        return self.low <= 1 <= self.high


def median(value_R: ArrayLike) -> Median:
    """Return the median with its interval by order statistics."""
    value_R = np.asarray(value_R)
    interval: Any = stats.quantile_test(value_R, p=0.5).confidence_interval(LEVEL)  # scipy-stubs call it a float
    return Median(float(np.median(value_R)), float(interval.low), float(interval.high), len(value_R))


def relative(theirs_R: ArrayLike, ours_R: ArrayLike) -> Median:
    """Return the median ratio of timings that were taken in the same rounds."""
    return median(np.divide(theirs_R, ours_R))


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the timing below which this share of them lies, with linear interpolation."""
    return float(np.quantile(seconds, share))
