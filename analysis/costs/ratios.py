"""Timings as numbers of a report: percentiles, and ratios to AIMv2 with intervals. Letters: R rounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.timing import ratio

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """The time of a call over AIMv2's: the median over rounds of the ratio of two timings.

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
        has_interval = not math.isnan(self.low)
        return f"{self.median:.2f} " + (f"[{self.low:.2f}, {self.high:.2f}]" if has_interval else "(no interval)")

    @property
    def includes_1(self) -> bool:
        """True if there is an interval and it does not tell the two times apart."""
        return self.low <= 1 <= self.high

    @property
    def numbers(self) -> dict[str, Any]:
        """The ratio as an estimate in ``report.json``."""
        return {
            "mean": self.median,
            "low": self.low,
            "high": self.high,
            "level": LEVEL,
            "n": self.n,
            "unit": "times AIMv2",
        }


def relative(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Return the ratio of timings that were taken in the same rounds."""
    median, low, high = ratio(np.array(theirs), np.array(ours))
    return Ratio(median, low, high, len(ours))


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the timing below which this share of them lies, with linear interpolation."""
    return float(np.quantile(seconds, share))
