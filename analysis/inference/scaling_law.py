"""The scaling law L = E + A n^-a + B d^-b of a loss in model size n and samples d: its robust fit, and its tests.

A law of one variable lacks the other's term. All parameters are in the units of the data: E in that of the loss, A in
loss times (unit of n)^a. Letters: R runs, V variables, P parameters, K starts or settings, S seeds.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, stats

from aimv2.analysis.inference.contrasts import Blocks
from aimv2.analysis.inference.intervals import LEVEL, NO_ESTIMATE, Estimate, percentiles

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
ALPHA = 0.01  # of the tests whether the loss rises (one-sided) and whether the form fits

NUM_DRAWS = 200
RESTARTS = (1.0, 0.7, 1.4)  # times the exponents of the point estimate, and then within their bounds
MIN_FREE = 0.1  # share of a run's deviation that its residual shows, at least; a run that the fit follows shows none
MANY_SETTINGS = 10  # per parameter; then settings are a sample that can itself be drawn, and no ladder
MAX_FACTOR = 3.0  # between the ends of an identified exponent's interval
MAX_OFFSET_WIDTH = 0.5  # width of an identified offset's interval, as a share of the smallest loss
NEAR = 1.01  # ratio to a bound that counts as at it
HELD_OUT_SHARE = 0.1  # of the runs, at least; with few levels, the largest level of a variable is more
NUM_BUDGETS = 5  # of the compute-optimal frontier


class FitError(ValueError):
    """These runs allow no fit."""


class NotConverged(FitError):
    """The search ended at its largest number of evaluations, from every start."""


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law: its parameters by name, log of loss minus log of prediction, and the Huber scale of its fit.

    The derivatives ``jacobian_RP`` of the residuals are in a unit of their own for each parameter.
    """

    variables: tuple[Variable, ...]
    parameters: Mapping[str, float]
    residual_R: np.ndarray
    jacobian_RP: np.ndarray
    huber: float

    @property
    def text(self) -> str:
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


class _Residuals:
    """The log residuals of a law at a point: offset and coefficients of centred variables, and then the exponents."""

    def __init__(self, runs: pd.DataFrame, variables: Sequence[Variable]) -> None:
        self.num_linear, self.num_exponents = 1 + len(variables), len(variables)
        self.loss_R = runs["loss"].to_numpy(dtype=float)
        log_RV = np.log(runs[list(variables)].to_numpy(dtype=float))
        self.centre_V = log_RV.mean(axis=0)  # centring conditions the problem
        self._centred_RV = log_RV - self.centre_V

    def split(self, point_P: np.ndarray) -> list[np.ndarray]:
        """Return offset and coefficients, and the exponents."""
        return np.split(point_P, [self.num_linear])

    def _basis(self, exponents_V: np.ndarray) -> np.ndarray:
        """Return what offset and coefficients multiply."""
        return np.hstack([np.ones((len(self.loss_R), 1)), np.exp(-self._centred_RV * exponents_V)])

    def at(self, point_P: np.ndarray) -> np.ndarray:
        linear, exponents_V = self.split(point_P)
        return np.asarray(np.log(self.loss_R) - np.log(self._basis(exponents_V) @ linear))

    def jacobian(self, point_P: np.ndarray) -> np.ndarray:
        linear, exponents_V = self.split(point_P)
        basis_RL = self._basis(exponents_V)
        slope_RV = basis_RL[:, 1:] * linear[1:] * self._centred_RV
        return np.asarray(np.hstack([-basis_RL, slope_RV]) / (basis_RL @ linear)[:, None])

    def start(self, exponents_V: np.ndarray) -> np.ndarray:
        """Return the best point with these exponents, by non-negative least squares of relative residuals."""
        linear, _ = optimize.nnls(self._basis(exponents_V) / self.loss_R[:, None], np.ones(len(self.loss_R)))
        return np.concatenate([np.maximum(linear, 1e-3 * self.loss_R.min()), exponents_V])

    def refine(self, point_P: np.ndarray, scale: float, max_evaluations: int) -> "optimize.OptimizeResult":
        counts = [self.num_linear, self.num_exponents]
        ends = [np.repeat(pair, counts) for pair in ((0.0, BOUNDS[0]), (math.inf, BOUNDS[1]))]
        return optimize.least_squares(
            self.at,
            point_P,
            self.jacobian,
            (ends[0], ends[1]),
            x_scale="jac",
            loss="huber",
            f_scale=scale,
            ftol=1e-10,
            xtol=1e-10,
            gtol=1e-14,
            max_nfev=max_evaluations,
        )


def fit(
    runs: pd.DataFrame,
    variables: Sequence[Variable],
    *,
    huber: float | None = None,
    starts_KV: np.ndarray | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Law:
    """Minimise the sum of Huber losses of log residuals over all parameters, from several starts.

    The sum is minimised, not the mean: with a mean and a small Huber scale an optimizer stops early (Besiroglu et al.
    2024). The Huber scale is in log units, by default ``HUBER_SCALES`` robust standard deviations of the residuals of
    least squares; starts are exponents within ``BOUNDS``, by default all combinations of ``STARTS``.

    Source: Hoffmann et al. 2022 (arXiv 2203.15556), "Approach 3"; Besiroglu et al. 2024 (arXiv 2404.10102).
    """
    if not np.all(np.isfinite(runs["loss"]) & (runs["loss"] > 0)):
        raise FitError("a loss is not a positive number")
    num_parameters, num_settings = 1 + 2 * len(variables), len(runs[list(variables)].drop_duplicates())
    if num_settings < num_parameters:
        raise FitError(f"{formula(variables)} needs at least {num_parameters} settings; the runs have {num_settings}")
    residuals = _Residuals(runs, variables)
    if starts_KV is None:
        starts_KV = np.array(list(itertools.product(STARTS, repeat=len(variables))))
    points = [residuals.start(exponents_V) for exponents_V in starts_KV]
    if huber is None:
        points = [residuals.refine(point, LEAST_SQUARES, max_evaluations).x for point in points]
        residual_R = min(map(residuals.at, points), key=lambda residual_R: float(residual_R @ residual_R))
        freedom = max(len(runs) - num_parameters, 1) / len(runs)
        huber = max(HUBER_SCALES * MAD_TO_SD * float(np.median(np.abs(residual_R))) / math.sqrt(freedom), MIN_HUBER)
    refined = [residuals.refine(point, huber, max_evaluations) for point in points]
    solutions = [solution for solution in refined if solution.success]
    if not solutions:
        raise NotConverged(f"the fit of {formula(variables)} did not converge from any start")
    smallest = min(float(solution.cost) for solution in solutions)
    best_P = next(solution.x for solution in solutions if solution.cost <= smallest * SAME_COST)
    linear, exponents_V = residuals.split(best_P)
    linear = np.where(linear < AT_BOUND * residuals.loss_R.min(), 0, linear)  # the search only comes near its bounds
    best_P = np.concatenate([linear, exponents_V])
    values = np.concatenate([linear * np.exp(np.append(0.0, exponents_V * residuals.centre_V)), exponents_V])
    names = ("E", *(COEFFICIENTS[name] for name in variables), *(EXPONENTS[name] for name in variables))
    parameters = dict(zip(names, values.tolist(), strict=True))
    return Law(tuple(variables), parameters, residuals.at(best_P), residuals.jacobian(best_P), huber)


def orthonormal(design_RP: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span those of a design, [R, rank]."""
    length_P = np.linalg.norm(design_RP, axis=0)
    unit_RP = design_RP[:, length_P > 0] / length_P[length_P > 0]
    columns, scale, _ = np.linalg.svd(unit_RP, full_matrices=False)
    return np.asarray(columns[:, scale > RANK_TOLERANCE * max(scale, default=0.0)])


def check_design(runs: pd.DataFrame, variables: Sequence[Variable]) -> None:
    """Raise a FitError that says what to run if runs cannot determine a law. A setting is a distinct point of the
    variables; seeds of one measure noise and determine no parameter."""
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


@dataclass(frozen=True)
class LackOfFit:
    """Whether residuals of settings exceed what seeds explain: the F test with replicates, NaN without them."""

    # relative standard deviation of a run over seeds, without what a seed adds to all settings
    noise_sd: float = math.nan
    misfit_sd: float = math.nan  # relative standard deviation of the settings' residual means beyond noise
    p: float = math.nan

    @property
    def is_shown(self) -> bool:
        return self.p < ALPHA


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The largest runs, and the error of a fit that has not seen them."""

    text: str
    is_held_R: np.ndarray
    law: Law | None = None  # the fit to the others; None if there is none, and ``reason`` says why
    # root mean square of log residuals of the held-out runs, with the jackknife's interval over shared seeds
    error: Estimate = NO_ESTIMATE
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ScalingLaw:
    """A law with its test and its refits to resampled runs: a row per refit that converged, a column per parameter."""

    runs: pd.DataFrame
    law: Law
    draws: pd.DataFrame
    num_failed: int
    held_out: HeldOut
    misfit: LackOfFit
    level: float = LEVEL

    def interval(self, parameter: str) -> tuple[float, float]:
        return percentiles(self.draws[parameter].to_numpy(dtype=float), self.level)

    @cached_property
    def unidentified(self) -> Mapping[str, str]:
        """By parameter that the data do not determine, a sentence that says why."""
        reasons: dict[str, str] = {}
        for variable in self.law.variables:
            coefficient, exponent = COEFFICIENTS[variable], EXPONENTS[variable]
            (low, high), smallest = self.interval(exponent), self.interval(coefficient)[0]
            text, reason = f"the interval of {exponent}, {bounds(low, high)},", ""
            if self.law.parameters[coefficient] == 0 or smallest == 0:
                reason = f"the interval of {coefficient} reaches 0, so the data may not need its term"
            elif low < BOUNDS[0] * NEAR or high > BOUNDS[1] / NEAR:
                reason = f"{text} reaches the end of the range of the search, {bounds(*BOUNDS)}"
            elif high > MAX_FACTOR * low:
                reason = f"{text} is wider than a factor of {MAX_FACTOR:g}"
            reasons |= dict.fromkeys((exponent, coefficient), reason)
        low, high = self.interval("E")
        if self.law.parameters["E"] == 0 or low == 0:
            reasons["E"] = f"its interval, {bounds(low, high)}, reaches 0, so the loss is not seen to level off"
        elif high - low > MAX_OFFSET_WIDTH * float(self.runs["loss"].min()):
            reasons["E"] = f"its interval, {bounds(low, high)}, is wider than {MAX_OFFSET_WIDTH:g} of the smallest loss"
        if self.misfit.is_shown:
            reasons = dict.fromkeys(self.law.parameters, "the form does not fit")
        if self.draws.empty:
            reasons = dict.fromkeys(self.law.parameters, "no refit converged")
        return {name: f"{name} is not identified: {reason}." for name, reason in reasons.items() if reason}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what the data do not identify or speak against."""
        sentences = [] if self.misfit.is_shown else list(self.unidentified.values())
        if self.num_failed:
            total = self.num_failed + len(self.draws)
            sentences.append(f"{self.num_failed} of {total} refits did not converge; the intervals leave them out.")
        if self.held_out.law is None:
            sentences.append(f"The form is not tested on larger runs: {self.held_out.reason}.")
        if math.isnan(self.misfit.p):
            sentences.append("Lack of fit is not testable without settings that were run with several seeds.")
        elif self.misfit.is_shown:
            misfit, noise = (f"{100 * sd:.1f} %" for sd in (self.misfit.misfit_sd, self.misfit.noise_sd))
            sentences.append(
                f"The form does not fit: settings deviate from it by {misfit} beyond the noise of {noise} (F test,"
                f" p = {self.misfit.p:.2g}), so that no parameter is identified."
            )
        return sentences


def assess(
    runs: pd.DataFrame, variables: Sequence[Variable], *, num_draws: int = NUM_DRAWS, huber: float | None = None
) -> ScalingLaw:
    """Fit the law to runs with a row each (the variables, ``loss``, and ``seed`` if known), test it, and give it
    intervals; FitError if they determine no law."""
    check_design(runs, variables)
    law = fit(runs, variables, huber=huber)
    draws, num_failed = resample(law, runs, num_draws=num_draws)
    return ScalingLaw(runs, law, draws, num_failed, predict_largest(runs, variables, huber), lack_of_fit(law, runs))


def resample(
    law: Law, runs: pd.DataFrame, *, num_draws: int = NUM_DRAWS, max_evaluations: int = MAX_EVALUATIONS
) -> tuple[pd.DataFrame, int]:
    """Refit the law to drawn settings if there are many (``draws_settings``), and otherwise to runs with drawn noise.

    Drawn settings let what the law lacks in a region widen the intervals, as noise does. A ladder has too few to lose
    any: what a seed adds to all settings is drawn as a block, and the rest of a run's log residual, scaled up for its
    leverage, changes its sign at random (wild bootstrap), so noise may differ between settings. Return a row per refit
    that converged, and the number of those that did not.

    Source: Efron and Tibshirani 1993, section 9.5 (settings, as in Besiroglu et al. 2024); Davidson and Flachaire 2008
    (signs; the scale is that of HC3, MacKinnon and White 1985); Davison and Hinkley 1997, section 3.8 (blocks).
    """
    rng = np.random.default_rng(0)
    settings = list(runs.groupby(list(law.variables)).indices.values())
    code_R, effect_S = seed_effects(law, runs)
    num_seeds, num_runs = len(effect_S), len(runs)
    free_R = np.maximum(1 - law.leverage_R, MIN_FREE) / math.sqrt(num_runs / (num_runs - num_seeds + 1))
    rest_R = (law.residual_R - law.residual_R.mean() - effect_S[code_R]) / free_R
    effect_S = effect_S * math.sqrt(num_seeds / max(num_seeds - 1, 1))
    starts_KV = np.clip(law.exponents * np.array(RESTARTS)[:, None], *BOUNDS)
    predicted_R, is_of_settings, rows = law.predict(runs), draws_settings(law, runs), []
    for _ in range(num_draws):
        if is_of_settings:
            sample = runs.iloc[np.concatenate([settings[i] for i in rng.integers(len(settings), size=len(settings))])]
        else:
            noise_R = rng.choice(effect_S, num_seeds)[code_R] + rest_R * rng.choice((-1, 1), num_runs)
            sample = runs.assign(loss=predicted_R * np.exp(noise_R))
        try:
            refit = fit(sample, law.variables, huber=law.huber, starts_KV=starts_KV, max_evaluations=max_evaluations)
            rows.append(refit.parameters)
        except NotConverged:
            continue
    return pd.DataFrame(rows, columns=list(law.parameters)), num_draws - len(rows)


def draws_settings(law: Law, runs: pd.DataFrame) -> bool:
    """True if intervals are those of drawn settings, because these are many and their runs share no seeds."""
    num_settings = len(runs[list(law.variables)].drop_duplicates())
    return num_settings >= MANY_SETTINGS * len(law.parameters) and not shares_seeds(runs, law.variables)


def seed_effects(law: Law, runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return each run's seed, int [R], and what it adds to all settings beside their free means, [S]; 0 if no block."""
    if not shares_seeds(runs, law.variables):
        return np.zeros(len(runs), dtype=int), np.zeros(1)
    code_R, seeds = pd.factorize(runs["seed"])
    setting_R = runs.groupby(list(law.variables)).ngroup().to_numpy()
    residual_SA = np.full((len(seeds), setting_R.max() + 1), math.nan)
    residual_SA[code_R, setting_R] = law.residual_R
    effect_S = Blocks(residual_SA).seed_effect_S
    return code_R, effect_S - effect_S[code_R].mean()


def shares_seeds(runs: pd.DataFrame, variables: Sequence[Variable]) -> bool:
    """True if seeds are blocks: two or more, each once in a setting and in at least half of the settings."""
    if "seed" not in runs or runs["seed"].nunique() < 2:
        return False
    counts = runs.groupby([*variables, "seed"]).size().unstack(fill_value=0)
    return bool((counts <= 1).all(axis=None) and (counts.mean() >= 0.5).all())


def predict_largest(runs: pd.DataFrame, variables: Sequence[Variable], huber: float | None = None) -> HeldOut:
    """Predict the largest level of each variable, of many the last tenth of the runs, by a fit to enough others."""
    is_held_R, texts = np.zeros(len(runs), dtype=bool), []
    for variable in variables:
        value_R = runs[variable].to_numpy(dtype=float)
        smallest = np.quantile(value_R, 1 - HELD_OUT_SHARE, method="lower")
        if len(np.unique(value_R[value_R < smallest])) >= MIN_LEVELS:
            is_held_R |= value_R >= smallest
            number = f"{smallest:,.0f}" if 1 <= smallest < 1e8 else f"{smallest:.3g}"
            texts.append(f"{variable} {'=' if smallest == value_R.max() else '>='} {number}")
    if not texts:
        return HeldOut("", is_held_R, reason="nothing is held out")

    def error_of(chosen_R: np.ndarray) -> float:
        law = fit(runs[chosen_R & ~is_held_R], variables, huber=huber)
        return law.log_error(runs[chosen_R & is_held_R])

    seeds = runs["seed"].unique().tolist() if shares_seeds(runs, variables) else []
    try:
        law = fit(runs[~is_held_R], variables, huber=huber)
        without_S = np.array([error_of((runs["seed"] != seed).to_numpy()) for seed in seeds])
    except FitError as error:
        return HeldOut(" or ".join(texts), is_held_R, reason=f"without the held-out runs: {error}")
    return HeldOut(" or ".join(texts), is_held_R, law, jackknife(law.log_error(runs[is_held_R]), without_S))


def jackknife(value: float, value_S: np.ndarray) -> Estimate:
    """Return an estimate with Student's interval from the values without each seed in turn (Tukey 1958)."""
    num = len(value_S)
    error = math.sqrt((num - 1) * float(np.var(value_S))) if num > 1 else 0.0
    return Estimate(value, error, max(num - 1, 0), max(num, 1))


def lack_of_fit(law: Law, runs: pd.DataFrame) -> LackOfFit:
    """Compare the law with free means of settings, both fitted by least squares, by the F test of nested models.

    Seeds that settings share are blocks in both models. The law is linear in its parameters around its fit. Source:
    Draper and Smith 1998, section 2.1; the noise is the interaction of settings and seeds.
    """
    fitted = fit(runs, law.variables, huber=LEAST_SQUARES)
    setting_RK = pd.get_dummies(runs.groupby(list(law.variables)).ngroup()).to_numpy(dtype=float)
    block_RS = np.zeros((len(runs), 0))
    if shares_seeds(runs, law.variables):
        block_RS = pd.get_dummies(runs["seed"]).to_numpy(dtype=float)
    rest, df_rest = _unexplained(fitted.residual_R, np.hstack([setting_RK, block_RS]))
    rest_of_law, df_law = _unexplained(fitted.residual_R, np.hstack([fitted.jacobian_RP, block_RS]))
    if df_rest < 1:
        return LackOfFit()
    noise, df_misfit = rest / df_rest, df_law - df_rest
    if df_misfit < 1 or noise < MIN_NOISE**2:
        return LackOfFit(math.sqrt(noise))
    misfit = max(rest_of_law - rest, 0) / df_misfit
    p = float(stats.f.sf(misfit / noise, df_misfit, df_rest))
    per_setting = len(runs) / setting_RK.shape[1]
    return LackOfFit(math.sqrt(noise), math.sqrt(max(misfit - noise, 0) / per_setting), p)


def _unexplained(values_R: np.ndarray, design_RP: np.ndarray) -> tuple[float, int]:
    """Return the sum of squares that a linear model leaves, and its degrees of freedom."""
    columns = orthonormal(design_RP)
    return float(np.sum((values_R - columns @ (columns.T @ values_R)) ** 2)), len(values_R) - columns.shape[1]


def frontier(law: Law, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the size and the samples with the smallest predicted loss for budgets in the range of the runs' ``flops``.

    FLOPs = (fixed + per_size n) d is fitted to the runs, by least squares of relative errors; ``is_inside`` is their
    range of n and d. Source: Hoffmann et al. 2022, "Approach 3"; without a fixed cost, n grows as FLOPs^(b / (a + b)).
    """
    parts_RP = np.column_stack([np.ones(len(runs)), runs["n"]]) / (runs["flops"] / runs["d"]).to_numpy()[:, None]
    (fixed, per_size), _ = optimize.nnls(parts_RP, np.ones(len(runs)))
    rows = []
    for flops in np.geomspace(runs["flops"].min(), runs["flops"].max(), NUM_BUDGETS):
        grid = pd.DataFrame({"flops": flops, "n": np.geomspace(runs["n"].min() / 10, runs["n"].max() * 10, 5000)})
        grid["d"] = flops / (fixed + per_size * grid["n"])
        grid["loss"] = law.predict(grid)
        rows.append(grid.iloc[int(grid["loss"].to_numpy().argmin())])
    table = pd.DataFrame(rows).reset_index(drop=True)
    is_inside = [table[name].between(runs[name].min(), runs[name].max()) for name in ("n", "d")]
    return table.assign(is_inside=is_inside[0] & is_inside[1])


def bounds(low: float, high: float) -> str:
    return f"[{digits(low)}, {digits(high)}]"


def digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent below a million."""
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(value) < 1e6 else text
