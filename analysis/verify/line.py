"""What a check comes to: a line with a verdict, and the interval that several of them rest on. Letter: N rows."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95

Verdict = Literal["PASS", "FAIL", "NOT APPLICABLE", "SHOWN"]


@dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    Attributes:
        number: of the experiment, ``1a`` to ``3d``.
        verdict: ``SHOWN`` is for what is only there to look at.
        found: the numbers, or why there are none.
        criterion: what the numbers had to fulfil.
    """

    number: str
    title: str
    verdict: Verdict
    found: str
    criterion: str = ""

    def __str__(self) -> str:
        criterion = f" (asked: {self.criterion})" if self.criterion else ""
        return f"{self.verdict}  {self.number} {self.title}: {self.found}{criterion}"


def judged(number: str, title: str, passes: bool, found: str, criterion: str) -> Line:
    """A line that passes or fails."""
    return Line(number, title, "PASS" if passes else "FAIL", found, criterion)


def not_applicable(number: str, title: str, why: str) -> Line:
    """A line for what the run does not have."""
    return Line(number, title, "NOT APPLICABLE", why)


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def clustered_mean(total_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray) -> Interval:
    """sum(total) / sum(weight) and a 95 % interval in which clusters, not rows, are independent.

    Variants of one concept (an emoji's skin tones) are near copies of each other, and counting them as independent
    would make intervals too narrow. The ratio is linearised: its residuals total - mean x weight are summed within
    clusters, and Student's t has one degree less than there are clusters. With unit weights and a cluster for every row
    it is the interval of the paired t-test. One cluster alone has no finite interval.
    """
    mean = float(total_N.sum() / weight_N.sum())
    residual_C = pd.Series(total_N - mean * weight_N).groupby(cluster_N).sum().to_numpy()
    num_clusters = len(residual_C)
    if num_clusters < 2:
        return Interval(mean, -np.inf, np.inf)
    error = np.sqrt(num_clusters / (num_clusters - 1) * np.square(residual_C).sum()) / weight_N.sum()
    half = float(stats.t.ppf((1 + LEVEL) / 2, num_clusters - 1) * error)
    return Interval(mean, mean - half, mean + half)
