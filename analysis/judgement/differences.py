"""Differences between the arms of a study, in metrics and in costs, with the error that each allows."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from aimv2.ablations.study import Cost, Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.contrasts import NO_BRACKET, Bracket, SharedError, range_difference
from aimv2.analysis.inference.intervals import (
    LEVEL,
    NO_ESTIMATE,
    Estimate,
    mean_interval,
    size_of,
    trimmed_mean,
    unpaired_difference,
)
from aimv2.analysis.inference.items import with_items

# By cost, that in words and its column in the table of runs.
COSTS: Mapping[Cost, tuple[str, str]] = {
    "samples": ("samples", "samples"),
    "flops": ("FLOPs", "train_flops"),
    "seconds": ("training time", "train_cpu_seconds"),  # the wall time of one run also measures the load of the machine
}


class Differences:
    """Differences between the arms of a study; intervals cover evaluation items where both sides have their values.

    Arms of the study share an error. The controls do not, because their spread may be another: the positive control has
    its own paired error, and the null control, with seeds of its own, an unpaired one. A difference of two metrics has
    its own paired error, because its spread differs from arm to arm.
    """

    def __init__(self, study: Study, evidence: Evidence, rivals: Collection[str] = ()) -> None:
        """``rivals`` are arms that spread otherwise than the study's others, and have errors of their own."""
        self._study = study
        self._evidence = evidence
        self._rivals = rivals
        self._errors: dict[str, SharedError] = {}

    def of(self, arm: str, metric: str, than_arm: str, than_metric: str, level: float = LEVEL) -> Estimate:
        """Return one side minus the other."""
        if metric == than_metric and {arm, than_arm} <= set(self._study.arms):
            estimate = self._error(metric).contrast(arm, than_arm, level)
        else:
            estimate = self._alone(arm, metric, than_arm, than_metric, level)
        return self._with_items(estimate, [(arm, metric, 1.0), (than_arm, than_metric, -1.0)])

    def combination(self, metric: str, weights: Mapping[str, float], level: float = LEVEL) -> Estimate:
        """Return a weighted sum of arms of the study."""
        estimate = self._error(metric).combination(weights, level)
        return self._with_items(estimate, [(arm, metric, weight) for arm, weight in weights.items()])

    def weighted(self, metric: str, weights: Mapping[str, float], level: float = LEVEL) -> Estimate:
        """Return a weighted sum of any paired arms, such as untrained encoders, with an error of its own."""
        parts = [(arm, metric, weight) for arm, weight in weights.items()]
        values = self._by_seed(parts)
        return self._with_items(mean_interval(values, level, size=self._size(parts)), parts)

    def trimmed(self, parts: Sequence[tuple[str, str, float]], level: float = LEVEL) -> Estimate:
        """Return a weighted sum of paired arms in metrics as a trimmed mean over seeds, beside that of all seeds."""
        return trimmed_mean(self._by_seed(parts), level)

    def _by_seed(self, parts: Sequence[tuple[str, str, float]]) -> "pd.Series[float]":
        values = [weight * self._evidence.value(metric, arm) for arm, metric, weight in parts]
        if not all(len(seeds) for seeds in values):
            return pd.Series(dtype=float)
        return pd.concat(values, axis=1).sum(axis=1, skipna=False)

    def _size(self, parts: Sequence[tuple[str, str, float]]) -> float:
        return size_of(*(weight * self._evidence.value(metric, arm) for arm, metric, weight in parts))

    def ranges(self, metric: str, arms: Sequence[str], than_arms: Sequence[str], level: float = LEVEL) -> Bracket:
        """Return how much wider the range of some arms of the study is than that of others; it covers seeds only."""
        if not {*arms, *than_arms} <= set(self._evidence.values(metric)):
            return NO_BRACKET
        return range_difference(self._error(metric), arms, than_arms, level)

    def from_baseline(
        self, metric: str, arms: Sequence[str], level: float = LEVEL, *, covers_items: bool = False
    ) -> dict[str, Estimate]:
        """Return each arm of the study minus the baseline; the intervals hold together; covering items reads files."""
        baseline = self._study.baseline
        estimates = self._error(metric).contrasts(arms, baseline, level)
        if not covers_items:
            return estimates
        return {
            arm: self._with_items(estimate, [(arm, metric, 1.0), (baseline, metric, -1.0)])
            for arm, estimate in estimates.items()
        }

    def separately(self, metric: str, arm: str, level: float = LEVEL, *, covers_items: bool = False) -> Estimate:
        """Return one arm, control or untrained encoder minus the baseline, with an interval of its own."""
        baseline = self._study.baseline
        if arm in self._study.arms:
            return self.from_baseline(metric, [arm], level, covers_items=covers_items)[arm]
        estimate = self._alone(arm, metric, baseline, metric, level)
        return self._with_items(estimate, [(arm, metric, 1.0), (baseline, metric, -1.0)]) if covers_items else estimate

    def relative_cost(self, arm: str, cost: Cost) -> float:
        """Return the ratio of an arm's mean cost to the baseline's; NaN if one has none, or it was not measured."""
        costs = self._costs(cost).mean()
        of_arm, of_baseline = costs.get(arm, 0.0), costs.get(self._study.baseline, 0.0)
        # The untrained encoder costs nothing.
        return float(of_arm / of_baseline) if of_arm > 0 and of_baseline > 0 else math.nan

    def relative_time(self, arm: str) -> Estimate:
        """Return the log ratio of an arm's training time to the baseline's, over the seeds of both."""
        costs = self._costs("seconds")
        if not {arm, self._study.baseline} <= set(costs):
            return NO_ESTIMATE
        return mean_interval(np.log(costs[arm] / costs[self._study.baseline]))

    def _error(self, metric: str) -> SharedError:
        if metric not in self._errors:
            values = self._evidence.values(metric)
            self._errors[metric] = SharedError(values[[arm for arm in self._study.arms if arm in values]], self._rivals)
        return self._errors[metric]

    def _alone(self, arm: str, metric: str, than_arm: str, than_metric: str, level: float) -> Estimate:
        values, than_values = self._evidence.value(metric, arm), self._evidence.value(than_metric, than_arm)
        if not are_paired(arm, than_arm):
            return unpaired_difference(values, than_values, level)
        if not len(values) or not len(than_values):
            return NO_ESTIMATE
        return mean_interval(values - than_values, level, size=size_of(values, than_values))

    def _with_items(self, estimate: Estimate, parts: Sequence[tuple[str, str, float]]) -> Estimate:
        """Add the items' part if the parts are paired and all seeds (``of_sum``) have the values of the same items."""
        if not estimate.has_interval or not all(are_paired(arm, parts[0][0]) for arm, _, _ in parts):
            return estimate
        covariance_SS, num_items = self._evidence.items.of_sum(parts)
        return estimate if len(covariance_SS) < estimate.n else with_items(estimate, covariance_SS, num_items)

    def _costs(self, cost: Cost) -> pd.DataFrame:
        """Return the cost of each run, a row per seed and a column per arm; empty if it was not measured."""
        runs, column = self._evidence.runs, COSTS[cost][1]
        if cost == "seconds" and "train_seconds" in runs and runs[column].isna().any():
            column = "train_seconds"  # a device trained
        if column not in runs:
            return pd.DataFrame()
        return runs.pivot(index="seed", columns="arm", values=column).astype(float)


def are_paired(arm: str, other: str) -> bool:
    """True if two arms are compared seed by seed. The null control has other seeds than every arm."""
    return arm == other or "null_control" not in (arm, other)
