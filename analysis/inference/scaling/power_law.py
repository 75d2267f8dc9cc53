"""Power laws of the loss in model size and data, and their robust fit.

The additive form is L(n, d) = E + A n^-a + B d^-b. All parameters are in the units of the data: E in that of the loss,
A in loss times (unit of n)^a, so other units of n change A alone. Letters: R runs, V variables, T terms, P parameters.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy import ndimage, optimize

from aimv2.analysis.inference.intervals import merged

Variable = Literal["n", "d"]

COEFFICIENTS: Mapping[Variable, str] = {"n": "A", "d": "B"}
EXPONENTS: Mapping[Variable, str] = {"n": "a", "d": "b"}
BOUNDS = (0.01, 4.0)  # of exponents
GRID = np.geomspace(0.02, 3, 24)
NUM_STARTS = 6
# Huber 1964: 95 % efficiency with normal noise. Hoffmann et al. fix the scale at 0.001, which is less than most noise.
HUBER_SCALES = 1.345
MIN_HUBER = 1e-6  # relative; of data without noise
MAD_TO_SD = 1.4826
LEAST_SQUARES = 1e3  # a Huber scale in log units that no residual exceeds
MAX_EVALUATIONS = 1000  # of the residuals, from one start
AT_BOUND = 1e-6  # share of the smallest loss below which an offset or a term counts as 0
SAME_COST = 1 + 1e-6  # ratio of costs of one minimum, found from two starts; the first start counts
RANK_TOLERANCE = 1e-9  # of singular values of columns with length 1


class FitError(ValueError):
    """These runs allow no fit."""


class NotConverged(FitError):
    """The search ended at its largest number of evaluations, from every start."""


@dataclass(frozen=True)
class Form:
    """A sum of an offset and terms, each a coefficient times powers of variables.

    Attributes:
        terms: the variables of each term.
    """

    name: str
    terms: tuple[tuple[Variable, ...], ...]
    has_offset: bool = True

    @property
    def variables(self) -> tuple[Variable, ...]:
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.terms)))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of offset, coefficients and exponents, in the order of the fit."""
        return (
            *(("E",) if self.has_offset else ()),
            *(COEFFICIENTS[term[0]] for term in self.terms),
            *(EXPONENTS[variable] for variable in self.variables),
        )

    @property
    def text(self) -> str:
        """The formula."""
        powers = [" ".join(f"{v}^-{EXPONENTS[v]}" for v in term) for term in self.terms]
        terms = [f"{COEFFICIENTS[term[0]]} {power}" for term, power in zip(self.terms, powers, strict=True)]
        return " + ".join([*(("E",) if self.has_offset else ()), *terms])


FORMS = {
    form.name: form
    for form in (
        Form("constant", ()),
        Form("n_no_offset", (("n",),), has_offset=False),
        Form("n", (("n",),)),
        Form("d_no_offset", (("d",),), has_offset=False),
        Form("d", (("d",),)),
        Form("additive_no_offset", (("n",), ("d",)), has_offset=False),
        Form("additive", (("n",), ("d",))),
        Form("multiplicative", (("n", "d"),)),
    )
}


def forms_of(variables: Sequence[Variable]) -> list[Form]:
    """Return the forms that need no other variable."""
    return [form for form in FORMS.values() if set(form.variables) <= set(variables)]


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted form.

    Attributes:
        parameters: by name, in the units of the data.
        residual_R: log of loss minus log of prediction, about the relative error.
        jacobian_RP: derivatives of the residuals by the parameters, each in a unit of its own.
        huber: the residual beyond which the loss function of the fit is linear.
        cost: the minimised sum of Huber losses, in squared log units.
    """

    form: Form
    parameters: Mapping[str, float]
    residual_R: np.ndarray
    jacobian_RP: np.ndarray
    huber: float
    cost: float

    def predict(self, runs: pd.DataFrame) -> np.ndarray:
        """Return the loss at each row's ``n`` and ``d``."""
        loss_R = np.full(len(runs), self.parameters.get("E", 0.0))
        for term in self.form.terms:
            power_R = sum(self.parameters[EXPONENTS[v]] * np.log(runs[v].to_numpy(dtype=float)) for v in term)
            loss_R = loss_R + self.parameters[COEFFICIENTS[term[0]]] * np.exp(-power_R)
        return loss_R

    def log_error(self, runs: pd.DataFrame) -> float:
        """Return the root mean square of log residuals on these runs."""
        residual_R = np.log(runs["loss"].to_numpy(dtype=float)) - np.log(self.predict(runs))
        return float(np.sqrt(np.mean(residual_R**2)))

    @property
    def leverage_R(self) -> np.ndarray:
        """The share of each run's deviation that the fit follows, 0 to 1."""
        return np.asarray((orthonormal(self.jacobian_RP) ** 2).sum(axis=1))

    @property
    def exponents(self) -> np.ndarray:
        """The exponents [V], a start of further fits."""
        return np.array([self.parameters[EXPONENTS[v]] for v in self.form.variables])


def fit(
    form: Form,
    runs: pd.DataFrame,
    *,
    huber: float | None = None,
    exponents_KV: np.ndarray | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Law:
    """Fit a form to runs: variable projection on a grid of exponents, then a Huber loss of log residuals.

    For given exponents the form is linear, so offset and coefficients follow by non-negative least squares of relative
    residuals. The local minima on the grid start the robust fit of all parameters together. The sum of losses is
    minimised, not their mean: with a mean and a small Huber scale an optimizer stops early (Besiroglu et al. 2024).

    Args:
        runs: ``loss`` and the form's variables, all positive.
        huber: the Huber scale, in log units; by default ``HUBER_SCALES`` robust standard deviations of the residuals of
            least squares.
        exponents_KV: starts within ``BOUNDS``, in place of the grid.
        max_evaluations: of the residuals, from one start.

    Raises:
        FitError: there are fewer distinct settings than parameters, or a loss is not a positive number.
        NotConverged: no start converged.

    Source: Golub and Pereyra 1973; Hoffmann et al. 2022 (arXiv 2203.15556), "Approach 3"; Besiroglu et al. 2024
    (arXiv 2404.10102).
    """
    problem = _Problem(form, runs, max_evaluations)
    if not np.all(np.isfinite(runs["loss"]) & (runs["loss"] > 0)):
        raise FitError("a loss is not a positive number")
    num_settings = len(runs[list(form.variables)].drop_duplicates()) if form.variables else len(runs)
    if num_settings < len(form.parameters):
        raise FitError(f"{form.text} needs at least {len(form.parameters)} settings; the runs have {num_settings}")
    starts = problem.grid_minima() if exponents_KV is None else exponents_KV
    points = [problem.start(exponents_V) for exponents_V in starts]
    if huber is None:
        points = [problem.refine(point, None).x for point in points]
        huber = problem.huber_scale(min(points, key=problem.squares))
    solutions = [solution for point in points if (solution := problem.refine(point, huber)).success]
    if not solutions:
        raise NotConverged(f"the fit of {form.text} did not converge from any start")
    enough = min(float(solution.cost) for solution in solutions) * SAME_COST
    best = next(solution for solution in solutions if solution.cost <= enough)
    point = problem.without_small(best.x)
    return Law(form, problem.named(point), problem.residual(point), problem.jacobian(point), huber, float(best.cost))


def orthonormal(design_RP: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span those of a design, [R, rank]."""
    length_P = np.linalg.norm(design_RP, axis=0)
    unit_RP = design_RP[:, length_P > 0] / length_P[length_P > 0]
    columns, scale, _ = np.linalg.svd(unit_RP, full_matrices=False)
    return np.asarray(columns[:, scale > RANK_TOLERANCE * max(scale, default=0.0)])


@dataclass(frozen=True, eq=False)
class _Problem:
    """A form and runs as a least-squares problem; variables are centred in the logarithm, which conditions it."""

    form: Form
    runs: pd.DataFrame
    max_evaluations: int

    @cached_property
    def _log_RV(self) -> np.ndarray:
        return np.asarray(np.log(self.runs[list(self.form.variables)].to_numpy(dtype=float)))

    @cached_property
    def _centre_V(self) -> np.ndarray:
        return np.asarray(self._log_RV.mean(axis=0))

    @cached_property
    def _loss_R(self) -> np.ndarray:
        return self.runs["loss"].to_numpy(dtype=float)

    @cached_property
    def _uses_TV(self) -> np.ndarray:
        """1 where a term has a variable."""
        variables = self.form.variables
        uses = [[float(v in term) for v in variables] for term in self.form.terms]
        return np.array(uses).reshape(len(self.form.terms), len(variables))

    @property
    def _num_linear(self) -> int:
        return int(self.form.has_offset) + len(self.form.terms)

    def _basis(self, exponents_V: np.ndarray) -> np.ndarray:
        """Return what the linear parameters multiply, [R, offset and T]."""
        power_RT = np.exp(-((self._log_RV - self._centre_V) * exponents_V) @ self._uses_TV.T)
        return np.hstack([np.ones((len(power_RT), int(self.form.has_offset))), power_RT])

    def start(self, exponents_V: np.ndarray) -> np.ndarray:
        """Return all parameters: the exponents, and the best linear ones for them, just inside their bounds."""
        linear, _ = self._project(exponents_V)
        return np.concatenate([np.maximum(linear, 1e-3 * self._loss_R.min()), exponents_V])

    def _project(self, exponents_V: np.ndarray) -> tuple[np.ndarray, float]:
        linear, norm = optimize.nnls(self._basis(exponents_V) / self._loss_R[:, None], np.ones(len(self._loss_R)))
        return linear, float(norm)

    def grid_minima(self) -> list[np.ndarray]:
        """Return the exponents at the best local minima of the projected problem on the grid."""
        num = len(self.form.variables)
        points = [np.array(point) for point in itertools.product(GRID, repeat=num)]
        norms = np.array([self._project(point)[1] for point in points]).reshape((len(GRID),) * num)
        norms = merged(norms.ravel()).reshape(norms.shape)  # norms are equal where a term is not used
        is_minimum = (
            (norms == ndimage.minimum_filter(norms, size=3, mode="nearest")).ravel() if num else np.array([True])
        )
        order = np.argsort(np.where(is_minimum, norms.ravel(), math.inf), kind="stable")
        return [points[i] for i in order[: min(NUM_STARTS, int(is_minimum.sum()))]]

    def refine(self, point: np.ndarray, huber: float | None) -> "optimize.OptimizeResult":
        """Minimise over all parameters from a point: the squares of log residuals, or their Huber loss."""
        low = np.repeat([0.0, BOUNDS[0]], [self._num_linear, len(self.form.variables)])
        high = np.repeat([math.inf, BOUNDS[1]], [self._num_linear, len(self.form.variables)])
        return optimize.least_squares(
            self.residual,
            point,
            self.jacobian,
            bounds=(low, high),
            x_scale="jac",
            loss="linear" if huber is None else "huber",
            f_scale=1.0 if huber is None else huber,
            ftol=1e-10,
            xtol=1e-10,
            gtol=1e-14,
            max_nfev=self.max_evaluations,
        )

    def residual(self, point: np.ndarray) -> np.ndarray:
        """Return the log residuals [R]."""
        linear, exponents_V = np.split(point, [self._num_linear])
        return np.asarray(np.log(self._loss_R) - np.log(self._basis(exponents_V) @ linear))

    def jacobian(self, point: np.ndarray) -> np.ndarray:
        """Return the derivatives of the residuals [R, P]."""
        linear, exponents_V = np.split(point, [self._num_linear])
        basis = self._basis(exponents_V)
        term_RT = basis[:, int(self.form.has_offset) :] * linear[int(self.form.has_offset) :]
        slope_RV = (term_RT @ self._uses_TV) * (self._log_RV - self._centre_V)
        return np.asarray(np.hstack([-basis, slope_RV]) / (basis @ linear)[:, None])

    def squares(self, point: np.ndarray) -> float:
        """Return the sum of squared log residuals."""
        return float(np.sum(self.residual(point) ** 2))

    def huber_scale(self, point: np.ndarray) -> float:
        """Return the Huber scale that suits the residuals of a least-squares fit."""
        freedom = max(len(self._loss_R) - len(point), 1) / len(self._loss_R)
        spread = MAD_TO_SD * float(np.median(np.abs(self.residual(point)))) / math.sqrt(freedom)
        return max(HUBER_SCALES * spread, MIN_HUBER)

    def without_small(self, point: np.ndarray) -> np.ndarray:
        """Return the parameters with those linear ones 0 that count as 0: the search only comes near its bounds."""
        linear, exponents_V = np.split(point, [self._num_linear])
        return np.concatenate([np.where(linear < AT_BOUND * self._loss_R.min(), 0, linear), exponents_V])

    def named(self, point: np.ndarray) -> dict[str, float]:
        """Return the parameters by name, in the units of the data."""
        linear, exponents_V = np.split(point, [self._num_linear])
        shift_T = np.exp(self._uses_TV @ (exponents_V * self._centre_V))
        unit = np.concatenate([np.ones(int(self.form.has_offset)), shift_T])
        values = np.concatenate([linear * unit, exponents_V])
        return dict(zip(self.form.parameters, values.tolist(), strict=True))
