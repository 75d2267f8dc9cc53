"""The outcome of a check, and the interval that several checks rest on. Letters: N rows, C clusters."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from aimv2.analysis.inference.intervals import Estimate
from aimv2.analysis.inference.items import influence


class Check(NamedTuple):
    """A check and its outcome.

    Attributes:
        name: the statement that is checked.
        passes: None if the check does not apply to the run.
        found: the measured values, or why the check does not apply.
        criterion: what the values must satisfy.
    """

    name: str
    passes: bool | None
    found: str
    criterion: str = ""

    @property
    def verdict(self) -> Literal["PASS", "FAIL", "NOT APPLICABLE"]:
        if self.passes is None:
            return "NOT APPLICABLE"
        return "PASS" if self.passes else "FAIL"

    def __str__(self) -> str:
        criterion = f" (criterion: {self.criterion})" if self.criterion else ""
        return f"{self.verdict}  {self.name}: {self.found}{criterion}"


def clustered_mean(total_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray) -> Estimate:
    """Estimate sum(total) / sum(weight) with an interval in which clusters, not rows, are independent.

    Variants of one concept (the skin tones of an emoji) are near copies, and counting them as independent would make
    the interval too narrow. The ratio is linearised: its residuals, total - mean x weight, are summed within clusters,
    and Student's t has one degree of freedom less than there are clusters. With unit weights and one row per cluster
    this is the interval of the paired t-test. A single cluster has no interval.

    Source: Cochran 1977, chapters 6 (ratios) and 9A (clusters).
    """
    total_C, weight_C = (pd.Series(part_N).groupby(cluster_N).sum().to_numpy() for part_N in (total_N, weight_N))
    part_C, num_clusters = influence(total_C, weight_C), len(total_C)
    error = float(stats.sem(part_C)) if num_clusters > 1 else 0.0
    return Estimate(float(total_N.sum() / weight_N.sum()), error, num_clusters - 1, num_clusters)
