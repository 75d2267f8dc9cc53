"""Convergence as survival data: what a run spends until it reaches a loss, which it may never do within its budget.

A *time* here is a cost on any scale: samples, FLOPs or seconds. A run that does not reach the loss is censored at its
budget. Arms are summarised by the restricted mean, the mean of the time or the horizon, whichever comes first. The
horizon is the smallest budget, so that every run is observed until then. The area under the Kaplan-Meier curve is then
this plain mean, and its interval is Student's: with 4 to 8 runs, Greenwood's normal interval is too narrow
(docs/statistics.md has the simulation). A log-rank test needs more runs than that, and ignores that seeds are paired.

Two arms are compared by the *lead*, and not by the difference of their times to the baseline's loss. The baseline
reaches its own final loss at the end of its budget by definition, so an arm that learns just as fast seems faster: some
of its runs arrive earlier, and none can count as later. The lead exchanges the roles of the arms, so it is symmetric
around zero if they do not differ.

Sources: Irwin 1949; Kaplan and Meier 1958; Royston and Parmar 2013.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aimv2.analysis.inference.intervals import Estimate, arm_mean, is_rounding


@dataclass(frozen=True)
class RestrictedMean:
    """How soon runs reach a loss.

    Attributes:
        estimate: the mean time until the loss or the horizon. Without spread, as where no run arrives, it has no
            interval.
        horizon: the smallest budget of the runs.
        num_reached: the number of runs that reach the loss within their budget. If it is smaller than the number of
            runs, the mean is a lower bound of the time without a horizon.
    """

    estimate: Estimate
    horizon: float
    num_reached: int

    @property
    def is_lower_bound(self) -> bool:
        return self.num_reached < self.estimate.n


def restricted_mean(times: Sequence[float], budgets: Sequence[float]) -> RestrictedMean:
    """Summarise the times that runs took to reach a loss; NaN where a run did not."""
    time_N, budget_N = np.array(times, dtype=float), np.array(budgets, dtype=float)
    has_reached_N = ~np.isnan(time_N)
    horizon = float(budget_N.min()) if len(budget_N) else math.nan
    observed_N = np.minimum(np.where(has_reached_N, time_N, budget_N), horizon)
    return RestrictedMean(arm_mean(observed_N, (0.0, horizon)), horizon, int(has_reached_N.sum()))


def lead(curve: "pd.Series[float]", other: "pd.Series[float]", horizon: float) -> float:
    """Return how far a run is ahead of another at a horizon; negative if it is behind.

    It is the time that the other takes to reach the run's loss at the horizon, minus the time that the run takes to
    reach the other's, both restricted to the horizon.
    """
    own = time_to_reach(curve, loss_at(other, horizon))
    others = time_to_reach(other, loss_at(curve, horizon))
    return float(np.fmin(others, horizon) - np.fmin(own, horizon))


def loss_at(curve: "pd.Series[float]", time: float) -> float:
    """Return a run's loss at a time, interpolated; the last one if the curve ends before."""
    return float(np.interp(time, curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)))


def time_to_reach(curve: "pd.Series[float]", loss: float) -> float:
    """Return the time at which a curve, losses by time, first falls to a loss, interpolated; NaN if it never does."""
    times, losses = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    is_same = np.asarray(is_rounding(np.abs(losses - loss), abs(loss)))
    below = np.flatnonzero((losses <= loss) | is_same)
    if not len(below):
        return math.nan
    last, first = below[0], max(below[0] - 1, 0)
    if is_same[last]:
        return float(times[last])  # where the curve is flat, rounding of a loss is much time
    return float(np.interp(loss, losses[[last, first]], times[[last, first]]))
