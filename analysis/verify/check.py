"""The outcome of a check, and the interval that several checks rest on. Letters: N rows, C clusters."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.intervals import Estimate

Verdict = Literal["PASS", "FAIL", "NOT APPLICABLE"]


@dataclass(frozen=True)
class Check:
    """A check and its outcome.

    Attributes:
        name: the statement that is checked.
        found: the measured values, or why the check does not apply.
        criterion: what the values must satisfy.
    """

    name: str
    verdict: Verdict
    found: str
    criterion: str = ""

    def __str__(self) -> str:
        criterion = f" (criterion: {self.criterion})" if self.criterion else ""
        return f"{self.verdict}  {self.name}: {self.found}{criterion}"


def judged(name: str, passes: bool, found: str, criterion: str) -> Check:
    """Return a check that passed or failed."""
    return Check(name, "PASS" if passes else "FAIL", found, criterion)


def not_applicable(name: str, why: str) -> Check:
    """Return a check that does not apply to this run."""
    return Check(name, "NOT APPLICABLE", why)


def clustered_mean(total_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray) -> Estimate:
    """Estimate sum(total) / sum(weight) with an interval in which clusters, not rows, are independent.

    Variants of one concept (the skin tones of an emoji) are near copies, and counting them as independent would make
    the interval too narrow. The ratio is linearised: its residuals, total - mean x weight, are summed within clusters,
    and Student's t has one degree of freedom less than there are clusters. With unit weights and one row per cluster
    this is the interval of the paired t-test. A single cluster has no interval.

    Source: Cochran 1977, chapters 6 (ratios) and 9A (clusters).
    """
    mean = float(total_N.sum() / weight_N.sum())
    residual_C = pd.Series(total_N - mean * weight_N).groupby(cluster_N).sum().to_numpy()
    num_clusters = len(residual_C)
    error = 0.0
    if num_clusters > 1:
        error = float(np.sqrt(num_clusters / (num_clusters - 1) * np.square(residual_C).sum()) / weight_N.sum())
    return Estimate(mean, error, num_clusters - 1, num_clusters)


def shown(estimate: Estimate) -> str:
    """Return an estimate as text: ``+0.148 [+0.114, +0.182]``."""
    interval = f"[{estimate.low:+.3f}, {estimate.high:+.3f}]" if estimate.has_interval else "(no interval)"
    return f"{estimate.mean:+.3f} {interval}"
