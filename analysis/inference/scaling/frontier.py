"""The compute-optimal frontier: the size and the number of samples with the smallest predicted loss for given FLOPs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from aimv2.analysis.inference.intervals import percentiles
from aimv2.analysis.inference.scaling.bootstrap import Bootstrap
from aimv2.analysis.inference.scaling.power_law import FitError

RANGE = (1e-3, 1e3)  # sizes that are searched, times the smallest and the largest size of the data
NUM_SIZES = 4000
NUM_BUDGETS = 25
UNEVEN = 0.1  # relative deviation of a run's FLOPs from the fitted cost above which the text warns


@dataclass(frozen=True)
class Cost:
    """Training FLOPs: (fixed + per_size n) d.

    Attributes:
        fixed: FLOPs of a sample (or token) whatever the size, such as those of a decoder.
        text: where the numbers come from.
    """

    fixed: float
    per_size: float
    text: str

    def flops(self, n: np.ndarray, d: np.ndarray) -> np.ndarray:
        return np.asarray((self.fixed + self.per_size * n) * d)


SIX_N_D = Cost(0.0, 6.0, "FLOPs = 6 n d (Kaplan et al. 2020), with n in parameters and d in tokens")


def fit_cost(runs: pd.DataFrame) -> Cost:
    """Fit FLOPs = (fixed + per_size n) d to the runs' own ``flops``, by least squares of relative errors."""
    size_R, per_sample_R = runs["n"].to_numpy(dtype=float), (runs["flops"] / runs["d"]).to_numpy(dtype=float)
    scale = float(size_R.mean())
    parts_RP = np.stack([np.ones_like(size_R), size_R / scale], axis=1) / per_sample_R[:, None]
    if len(np.unique(size_R)) < 2:
        parts_RP[:, 0] = 0
    (fixed, slope), _ = optimize.nnls(parts_RP, np.ones(len(size_R)))
    deviation = float(np.max(np.abs(parts_RP @ [fixed, slope] - 1)))
    text = f"FLOPs = ({fixed:.3g} + {slope / scale:.3g} n) d, fitted to the FLOPs of the runs"
    text += f" within {100 * deviation:.1f} %"
    if deviation > UNEVEN:
        text += "; they are not a function of n and d alone, so read the frontier with care"
    return Cost(float(fixed), float(slope / scale), text)


@dataclass(frozen=True, eq=False)
class Frontier:
    """The compute-optimal sizes and samples.

    Attributes:
        table: a row per budget: ``flops``, ``n``, ``d`` and ``loss`` with the ends of their intervals (``n_low``,
            ``n_high``, and so on), and ``is_inside``: True if both optima are within the range of the runs.
        slope: the exponent of n_opt in FLOPs at the largest budget, and the ends of its interval; without a fixed cost
            it is b / (a + b) at every budget.
        num_draws: draws of the bootstrap.
        num_without: those without an optimum, because a term of theirs is 0.
        num_outside: those whose optimum at a budget is not among the sizes that are searched. The intervals at these
            budgets leave them out, and so does that of the slope, if the budget is one of the two largest.
    """

    cost: Cost
    table: pd.DataFrame
    slope: tuple[float, float, float]
    num_draws: int
    num_without: int
    num_outside: int


def frontier(bootstrap: Bootstrap, cost: Cost) -> Frontier | None:
    """Return the frontier of an additive law over the range of the runs' FLOPs; None if a term of the law is 0.

    Along the frontier a A n^-a (fixed + per_size n) = b B d^-b per_size n, which gives d for each n, and so the FLOPs.

    Raises:
        ValueError: the form of the law has no trade-off between n and d.
        FitError: FLOPs do not grow with n.

    Source: with a fixed cost of 0, Hoffmann et al. 2022, equation 4: n_opt = G (FLOPs / per_size)^(b / (a + b)), with
    G = (a A / b B)^(1 / (a + b)).
    """
    if not bootstrap.law.form.name.startswith("additive"):
        raise ValueError(f"{bootstrap.law.form.text} has no compute-optimal frontier; only the additive form has")
    if cost.per_size == 0:
        raise FitError("the FLOPs of the runs do not grow with n, so there is no compute-optimal n")
    runs = bootstrap.runs
    spent = cost.flops(runs["n"].to_numpy(dtype=float), runs["d"].to_numpy(dtype=float))
    budgets = np.geomspace(spent.min(), spent.max(), NUM_BUDGETS)
    sizes = np.geomspace(runs["n"].min() * RANGE[0], runs["n"].max() * RANGE[1], NUM_SIZES)
    point = _optima(bootstrap.law.parameters, cost, sizes, budgets)
    if point is None:
        return None
    found = [
        _optima(dict(zip(bootstrap.law.form.parameters, row, strict=True)), cost, sizes, budgets)
        for row in bootstrap.draws.to_numpy()
    ]
    draws = [draw for draw in found if draw is not None]
    table = pd.DataFrame({"flops": budgets})
    for name in ("n", "d", "loss"):
        table[name] = point[name]
        ends = [percentiles(np.array([draw[name][i] for draw in draws]), bootstrap.level) for i in range(NUM_BUDGETS)]
        table[f"{name}_low"], table[f"{name}_high"] = zip(*ends, strict=True)
    table["is_inside"] = table["n"].between(runs["n"].min(), runs["n"].max()) & table["d"].between(
        runs["d"].min(), runs["d"].max()
    )
    slopes = percentiles(np.array([_slope(draw, budgets) for draw in draws]), bootstrap.level)
    return Frontier(
        cost,
        table,
        (_slope(point, budgets), *slopes),
        num_draws=len(found),
        num_without=len(found) - len(draws),
        num_outside=sum(bool(np.isnan(draw["n"]).any()) for draw in draws),
    )


def _optima(
    parameters: Mapping[str, float], cost: Cost, sizes: np.ndarray, budgets: np.ndarray
) -> dict[str, np.ndarray] | None:
    """Return the optimal n and d and their loss at each budget, NaN if n is not among the sizes.

    Returns:
        None if a term is 0, where no finite optimum exists.
    """
    big_a, a, big_b, b = (parameters[name] for name in ("A", "a", "B", "b"))
    if big_a == 0 or big_b == 0:
        return None
    share = cost.per_size * sizes / (cost.fixed + cost.per_size * sizes)
    log_d = (np.log(b * big_b * share) - np.log(a * big_a) + a * np.log(sizes)) / b
    log_flops = np.log(cost.fixed + cost.per_size * sizes) + log_d
    n = np.exp(np.interp(np.log(budgets), log_flops, np.log(sizes), left=math.nan, right=math.nan))
    d = budgets / (cost.fixed + cost.per_size * n)
    return {"n": n, "d": d, "loss": parameters.get("E", 0.0) + big_a * n**-a + big_b * d**-b}


def _slope(optima: Mapping[str, np.ndarray], budgets: np.ndarray) -> float:
    return float(np.diff(np.log(optima["n"][-2:]))[0] / np.diff(np.log(budgets[-2:]))[0])
