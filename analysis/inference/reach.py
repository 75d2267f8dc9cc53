"""Samples until a loss is reached: censored data, as a run that does not reach it ends at its budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Reach:
    """How fast the runs of an arm reach a loss.

    Attributes:
        mean: samples until the loss or the budget, whichever comes first, on average over all runs (the restricted
            mean of Irwin 1949).
        num_reached, n: the number of runs that reach it, and of all.
    """

    mean: float
    num_reached: int
    n: int


def reach(samples: Sequence[float], budgets: Sequence[float]) -> Reach:
    """Summarise the samples that runs took to reach a loss; NaN where a run did not."""
    taken, ends = np.array(samples, dtype=float), np.array(budgets, dtype=float)
    reached = ~np.isnan(taken)
    mean = float(np.where(reached, taken, ends).mean()) if len(taken) else math.nan
    return Reach(mean, int(reached.sum()), len(taken))


def samples_to_reach(curve: "pd.Series[float]", loss: float) -> float:
    """Return the number of samples at which a curve first falls to a loss; NaN if it never does.

    The curve is linear between its points.

    Args:
        curve: a run's losses by samples, in their order.
    """
    samples, losses = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return math.nan
    last, first = below[0], max(below[0] - 1, 0)
    return float(np.interp(loss, losses[[last, first]], samples[[last, first]]))
