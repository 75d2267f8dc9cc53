"""Convergence as survival data: what a run spends (samples, FLOPs or seconds) until it reaches a loss; a run that does
not is censored at its budget.

Arms are summarised by the restricted mean, up to the smallest budget: every run is observed until then, so the area
under the Kaplan-Meier curve is a plain mean. Its interval is Student's: with 4 to 8 runs, Greenwood's normal interval
is too narrow (docs/statistics.md has the simulation). Two arms are compared by the *lead*, which exchanges their roles
and so is symmetric around zero if they do not differ: times to the baseline's own final loss would only be earlier.

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
    """The mean time of runs until a loss or the horizon, their smallest budget, and how many reach the loss."""

    estimate: Estimate
    num_reached: int

    @property
    def is_lower_bound(self) -> bool:
        """True if some runs do not arrive, so that the time without a horizon is longer."""
        return self.num_reached < self.estimate.n


def restricted_mean(times: Sequence[float], budgets: Sequence[float]) -> RestrictedMean:
    """Summarise the times that runs took to reach a loss; NaN where a run did not."""
    time_N, budget_N = np.array(times, dtype=float), np.array(budgets, dtype=float)
    has_reached_N = ~np.isnan(time_N)
    horizon = float(budget_N.min()) if len(budget_N) else math.nan
    observed_N = np.minimum(np.where(has_reached_N, time_N, budget_N), horizon)
    return RestrictedMean(arm_mean(observed_N, (0.0, horizon)), int(has_reached_N.sum()))


def lead(curve: "pd.Series[float]", other: "pd.Series[float]", horizon: float) -> float:
    """Return how far a run is ahead of another: the time that the other takes to reach the run's loss at the horizon,
    minus the time that the run takes to reach the other's, both restricted to the horizon."""
    time = time_to_reach(curve, loss_at(other, horizon))
    other_time = time_to_reach(other, loss_at(curve, horizon))
    return float(np.fmin(other_time, horizon) - np.fmin(time, horizon))


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
