"""The scaling law L = E + A n^-a + B d^-b of a loss in model size n and samples d, and its robust fit.

A law of one variable lacks the other's term. All parameters are in the units of the data: E in that of the loss, A in
loss times (unit of n)^a, so other units of n change A alone. Letters: R runs, V variables, P parameters, K starts.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, stats

Variable = Literal["n", "d"]

COEFFICIENTS: Mapping[Variable, str] = {"n": "A", "d": "B"}
EXPONENTS: Mapping[Variable, str] = {"n": "a", "d": "b"}
BOUNDS = (0.01, 4.0)  # of exponents
STARTS = (0.1, 0.4, 1.0, 2.5)  # of each exponent
# Huber 1964: 95 % efficiency with normal noise. Hoffmann et al. fix the scale at 0.001, which is less than most noise.
HUBER_SCALES = 1.345
MIN_HUBER = 1e-6  # relative; of data without noise
MAD_TO_SD = 1.4826
LEAST_SQUARES = 1e3  # a Huber scale in log units that no residual exceeds
MAX_EVALUATIONS = 1000  # of the residuals, from one start
AT_BOUND = 1e-6  # share of the smallest loss below which an offset or a term counts as 0
SAME_COST = 1 + 1e-6  # ratio of costs of one minimum, found from two starts; the first start counts
RANK_TOLERANCE = 1e-9  # of singular values of columns with length 1

MIN_FREEDOM = 4  # settings beyond the parameters; with fewer, the fit follows the noise and intervals are chance
MIN_LEVELS = 3  # of a variable: an offset, a coefficient and an exponent need three
MAX_CORRELATION = 0.99  # of log n and log d, absolute; above, less than a seventh of either's spread is its own
MIN_NOISE = 1e-9  # relative; below, losses are equal but for rounding
ALPHA = 0.01  # one-sided, of the test whether the loss rises


class FitError(ValueError):
    """These runs allow no fit."""


class NotConverged(FitError):
    """The search ended at its largest number of evaluations, from every start."""


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law.

    Attributes:
        parameters: E, coefficients and exponents by name, in the units of the data.
        residual_R: log of loss minus log of prediction, about the relative error.
        jacobian_RP: derivatives of the residuals by the parameters, each in a unit of its own.
        huber: the residual beyond which the loss function of the fit is linear.
    """

    variables: tuple[Variable, ...]
    parameters: Mapping[str, float]
    residual_R: np.ndarray
    jacobian_RP: np.ndarray
    huber: float

    @property
    def text(self) -> str:
        """The formula."""
        return formula(self.variables)

    @property
    def exponents(self) -> np.ndarray:
        return np.array([self.parameters[EXPONENTS[name]] for name in self.variables])

    @property
    def leverage_R(self) -> np.ndarray:
        """The share of each run's deviation that the fit follows, 0 to 1."""
        return np.asarray((orthonormal(self.jacobian_RP) ** 2).sum(axis=1))

    def predict(self, runs: pd.DataFrame) -> np.ndarray:
        """Return the loss at each row's ``n`` and ``d``."""
        loss_R = np.full(len(runs), self.parameters["E"])
        for name in self.variables:
            power_R = runs[name].to_numpy(dtype=float) ** -self.parameters[EXPONENTS[name]]
            loss_R = loss_R + self.parameters[COEFFICIENTS[name]] * power_R
        return loss_R

    def log_error(self, runs: pd.DataFrame) -> float:
        """Return the root mean square of log residuals on these runs."""
        residual_R = np.log(runs["loss"].to_numpy(dtype=float)) - np.log(self.predict(runs))
        return float(np.sqrt(np.mean(residual_R**2)))


def formula(variables: Sequence[Variable]) -> str:
    return " + ".join(["E", *(f"{COEFFICIENTS[name]} {name}^-{EXPONENTS[name]}" for name in variables)])


def fit(
    runs: pd.DataFrame,
    variables: Sequence[Variable],
    *,
    huber: float | None = None,
    starts_KV: np.ndarray | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Law:
    """Minimise the sum of Huber losses of log residuals over all parameters, from several starts.

    At a start, offset and coefficients are the best for its exponents, by non-negative least squares of relative
    residuals. The sum is minimised, not the mean: with a mean and a small Huber scale an optimizer stops early
    (Besiroglu et al. 2024).

    Args:
        runs: ``loss`` and the variables, all positive.
        huber: the Huber scale, in log units; by default ``HUBER_SCALES`` robust standard deviations of the residuals of
            least squares.
        starts_KV: exponents within ``BOUNDS``; by default all combinations of ``STARTS``.
        max_evaluations: of the residuals, from one start.

    Raises:
        FitError: there are fewer distinct settings than parameters, or a loss is not a positive number.
        NotConverged: no start converged.

    Source: Hoffmann et al. 2022 (arXiv 2203.15556), "Approach 3"; Besiroglu et al. 2024 (arXiv 2404.10102).
    """
    if not np.all(np.isfinite(runs["loss"]) & (runs["loss"] > 0)):
        raise FitError("a loss is not a positive number")
    num_linear, num_parameters = 1 + len(variables), 1 + 2 * len(variables)
    num_settings = len(runs[list(variables)].drop_duplicates())
    if num_settings < num_parameters:
        raise FitError(f"{formula(variables)} needs at least {num_parameters} settings; the runs have {num_settings}")
    loss_R, log_RV = runs["loss"].to_numpy(dtype=float), np.log(runs[list(variables)].to_numpy(dtype=float))
    centre_V = log_RV.mean(axis=0)  # centring conditions the problem

    def basis(exponents_V: np.ndarray) -> np.ndarray:
        """Return what offset and coefficients multiply."""
        return np.hstack([np.ones((len(runs), 1)), np.exp(-(log_RV - centre_V) * exponents_V)])

    def residual(point_P: np.ndarray) -> np.ndarray:
        linear, exponents_V = np.split(point_P, [num_linear])
        return np.asarray(np.log(loss_R) - np.log(basis(exponents_V) @ linear))

    def jacobian(point_P: np.ndarray) -> np.ndarray:
        linear, exponents_V = np.split(point_P, [num_linear])
        basis_RL = basis(exponents_V)
        slope_RV = basis_RL[:, 1:] * linear[1:] * (log_RV - centre_V)
        return np.asarray(np.hstack([-basis_RL, slope_RV]) / (basis_RL @ linear)[:, None])

    def start(exponents_V: np.ndarray) -> np.ndarray:
        linear, _ = optimize.nnls(basis(exponents_V) / loss_R[:, None], np.ones(len(runs)))
        return np.concatenate([np.maximum(linear, 1e-3 * loss_R.min()), exponents_V])

    def refine(point_P: np.ndarray, scale: float) -> "optimize.OptimizeResult":
        ends = [np.repeat(pair, [num_linear, len(variables)]) for pair in ((0.0, BOUNDS[0]), (math.inf, BOUNDS[1]))]
        return optimize.least_squares(
            residual,
            point_P,
            jacobian,
            (ends[0], ends[1]),
            x_scale="jac",
            loss="huber",
            f_scale=scale,
            ftol=1e-10,
            xtol=1e-10,
            gtol=1e-14,
            max_nfev=max_evaluations,
        )

    if starts_KV is None:
        starts_KV = np.array(list(itertools.product(STARTS, repeat=len(variables))))
    points = [start(exponents_V) for exponents_V in starts_KV]
    if huber is None:
        points = [refine(point, LEAST_SQUARES).x for point in points]
        spread = min(
            (np.abs(residual(point)) for point in points), key=lambda residual_R: float(residual_R @ residual_R)
        )
        freedom = max(len(runs) - num_parameters, 1) / len(runs)
        huber = max(HUBER_SCALES * MAD_TO_SD * float(np.median(spread)) / math.sqrt(freedom), MIN_HUBER)
    solutions = [solution for point in points if (solution := refine(point, huber)).success]
    if not solutions:
        raise NotConverged(f"the fit of {formula(variables)} did not converge from any start")
    smallest = min(float(solution.cost) for solution in solutions)
    best_P = next(solution.x for solution in solutions if solution.cost <= smallest * SAME_COST)
    linear, exponents_V = np.split(best_P, [num_linear])
    linear = np.where(linear < AT_BOUND * loss_R.min(), 0, linear)  # the search only comes near its bounds
    best_P = np.concatenate([linear, exponents_V])
    values = np.concatenate([linear * np.exp(np.append(0.0, exponents_V * centre_V)), exponents_V])
    names = ("E", *(COEFFICIENTS[name] for name in variables), *(EXPONENTS[name] for name in variables))
    parameters = dict(zip(names, values.tolist(), strict=True))
    return Law(tuple(variables), parameters, residual(best_P), jacobian(best_P), huber)


def orthonormal(design_RP: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span those of a design, [R, rank]."""
    length_P = np.linalg.norm(design_RP, axis=0)
    unit_RP = design_RP[:, length_P > 0] / length_P[length_P > 0]
    columns, scale, _ = np.linalg.svd(unit_RP, full_matrices=False)
    return np.asarray(columns[:, scale > RANK_TOLERANCE * max(scale, default=0.0)])


def check_design(runs: pd.DataFrame, variables: Sequence[Variable]) -> None:
    """Check that runs can determine a law, before it is fitted.

    A setting is a distinct point of the variables. Seeds of one setting measure noise and determine no further
    parameter.

    Raises:
        FitError: there are too few settings, a variable has too few values, n and d vary together, or the loss rises
            with a variable. The message says what is wrong and what to run.
    """
    if runs.empty:
        raise FitError("there are no runs")
    text, num_parameters = formula(variables), 1 + 2 * len(variables)
    for name in variables:
        if (count := runs[name].nunique()) < MIN_LEVELS:
            raise FitError(f"{text} needs {MIN_LEVELS} values of {name} and the runs have {count}; run others")
    means = runs[[*variables, "loss"]].transform(np.log).groupby(list(variables), as_index=False).mean()
    if len(variables) > 1 and abs(correlation := float(means["n"].corr(means["d"]))) > MAX_CORRELATION:
        raise FitError(
            f"n and d vary together (the correlation of their logarithms is {correlation:.3f}), so their effects cannot"
            " be told apart; run several values of d at each n"
        )
    if (lacking := num_parameters + MIN_FREEDOM - len(means)) > 0:
        raise FitError(
            f"{text} has {num_parameters} parameters and needs at least {num_parameters + MIN_FREEDOM} settings, and"
            f" the runs have {len(means)}; run {lacking} more, since further seeds of the same settings are not enough"
        )
    _check_sign(means, variables)


def _check_sign(means: pd.DataFrame, variables: Sequence[Variable]) -> None:
    """Refuse a loss that rises: the partial slope of log loss is positive by Student's t test over settings' means."""
    design = np.column_stack([np.ones(len(means)), means[list(variables)]])
    slopes, _, _, _ = np.linalg.lstsq(design, means["loss"], rcond=None)
    df = len(means) - design.shape[1]
    noise = max(float(np.sum((means["loss"] - design @ slopes) ** 2)) / df, MIN_NOISE**2)
    errors = np.sqrt(noise * np.diag(np.linalg.inv(design.T @ design)))
    for name, slope, error in zip(variables, slopes[1:], errors[1:], strict=True):
        if slope > stats.t.ppf(1 - ALPHA, df) * error:
            raise FitError(
                f"the loss rises with {name}, by {100 * (2**slope - 1):.2g} % per doubling, and {formula(variables)}"
                f" only falls; tune the runs with the largest {name}, or fit a law without {name}"
            )
