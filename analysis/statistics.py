"""Intervals over seeds, paired differences, and what may be concluded from them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95

Direction = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval; the bounds are NaN when there is none: one seed, or no spread at all."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        return bool(np.isfinite(self.low))

    @property
    def excludes_zero(self) -> bool:
        return self.has_interval and not self.low <= 0 <= self.high


def mean_interval(values: np.ndarray, level: float = LEVEL) -> Estimate:
    """Mean and Student's t interval."""
    values = np.asarray(values, dtype=float)
    mean, n = float(np.mean(values)), len(values)
    error = float(stats.sem(values)) if n > 1 else 0.0
    if error == 0:  # equal counts of few images happen; they are no proof of certainty
        return Estimate(mean, float("nan"), float("nan"), n)
    low, high = stats.t.interval(level, n - 1, loc=mean, scale=error)
    return Estimate(mean, float(low), float(high), n)


def paired_difference(values: pd.DataFrame, arm: str, baseline: str, level: float = LEVEL) -> Estimate | None:
    """Arm minus baseline over the seeds that both have; None when they share none.

    Args:
        values: a row per seed, a column per arm, as ``Evidence.values`` gives it.
    """
    if arm not in values or baseline not in values:
        return None
    difference = (values[arm] - values[baseline]).dropna().to_numpy()
    return mean_interval(difference, level) if len(difference) else None


def simultaneous_level(num_comparisons: int, level: float = LEVEL) -> float:
    """The level each of several intervals needs for all to hold at once with ``level`` (Bonferroni)."""
    return 1 - (1 - level) / max(num_comparisons, 1)


def direction(difference: Estimate, *, lower_is_better: bool) -> Direction:
    """Whether an arm is better or worse than the baseline, as far as the interval tells."""
    if not difference.excludes_zero:
        return "unclear"
    return "better" if (difference.mean < 0) == lower_is_better else "worse"


def samples_to_reach(curve: pd.DataFrame, loss: float, column: str) -> float:
    """Samples at which a curve first comes down to a loss, linear between its points; NaN if it never does.

    Args:
        curve: one run's rows, with ``samples`` and the loss in ``column``; rows without it are skipped.
    """
    points = curve.dropna(subset=[column]).sort_values("samples")
    samples, losses = points["samples"].to_numpy(dtype=float), points[column].to_numpy(dtype=float)
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return float("nan")
    i = below[0]
    if i == 0:
        return float(samples[0])
    share = (losses[i - 1] - loss) / (losses[i - 1] - losses[i])
    return float(samples[i - 1] + share * (samples[i] - samples[i - 1]))
