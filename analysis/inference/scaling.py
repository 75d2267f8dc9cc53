"""What qualifies a scaling law: intervals, its error on the largest runs, the test of its form, and what to warn of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import optimize, stats

from aimv2.analysis.inference.contrasts import Blocks
from aimv2.analysis.inference.intervals import LEVEL, NO_ESTIMATE, Estimate, percentiles
from aimv2.analysis.inference.power_law import (
    BOUNDS,
    COEFFICIENTS,
    EXPONENTS,
    LEAST_SQUARES,
    MAX_EVALUATIONS,
    MIN_LEVELS,
    MIN_NOISE,
    FitError,
    Law,
    NotConverged,
    Variable,
    check_design,
    fit,
    orthonormal,
)

NUM_DRAWS = 200
RESTARTS = (1.0, 0.7, 1.4)  # times the exponents of the point estimate, and then within their bounds
MIN_FREE = 0.1  # share of a run's deviation that its residual shows, at least; a run that the fit follows shows none
MANY_SETTINGS = 10  # per parameter; then settings are a sample that can itself be drawn, and no ladder
MAX_FACTOR = 3.0  # between the ends of an identified exponent's interval
MAX_OFFSET_WIDTH = 0.5  # width of an identified offset's interval, as a share of the smallest loss
NEAR = 1.01  # ratio to a bound that counts as at it
HELD_OUT_SHARE = 0.1  # of the runs, at least; with few levels, the largest level of a variable is more
ALPHA = 0.01  # of the test of lack of fit, which should seldom warn by chance
NUM_BUDGETS = 5  # of the compute-optimal frontier


@dataclass(frozen=True)
class LackOfFit:
    """Whether residuals of settings exceed what seeds explain: the F test with replicates.

    Attributes:
        noise_sd: relative standard deviation of a run over seeds, without what a seed adds to all settings.
        misfit_sd: relative standard deviation of the settings' residual means beyond noise; 0 if there is none.
        p: NaN without replicates, or if all are equal.
    """

    noise_sd: float = math.nan
    misfit_sd: float = math.nan
    p: float = math.nan

    @property
    def is_shown(self) -> bool:
        return self.p < ALPHA


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The largest runs, and the error of a fit that has not seen them.

    Attributes:
        text: which runs are held out; empty if none is.
        is_held_R: bool [R].
        law: the fit to the others; None if there is none, and ``reason`` says why.
        error: root mean square of log residuals of the held-out runs; its interval is that of the jackknife over seeds,
            and missing if settings do not share seeds. ``NO_ESTIMATE`` without a fit.
    """

    text: str
    is_held_R: np.ndarray
    law: Law | None = None
    error: Estimate = NO_ESTIMATE
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ScalingLaw:
    """A law with its test and its refits to resampled runs.

    Attributes:
        runs: a row per run: ``n``, ``d``, or one of them, ``loss``, and ``seed`` if it is known.
        draws: a row per refit that converged, a column per parameter.
        num_failed: refits that did not converge.
    """

    runs: pd.DataFrame
    law: Law
    draws: pd.DataFrame
    num_failed: int
    held_out: HeldOut
    misfit: LackOfFit
    level: float = LEVEL

    def interval(self, parameter: str) -> tuple[float, float]:
        """Return the percentile interval of a parameter; NaN without draws."""
        return percentiles(self.draws[parameter].to_numpy(dtype=float), self.level)

    @cached_property
    def unidentified(self) -> Mapping[str, str]:
        """By parameter that the data do not determine, a sentence that says why."""
        reasons: dict[str, str] = {}
        for variable in self.law.variables:
            coefficient, exponent = COEFFICIENTS[variable], EXPONENTS[variable]
            (low, high), smallest = self.interval(exponent), self.interval(coefficient)[0]
            text = f"the interval of {exponent}, {bounds(low, high)},"
            reason = ""
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
        if self.draws.empty:
            reasons = dict.fromkeys(self.law.parameters, "no refit converged")
        return {name: f"{name} is not identified: {reason}." for name, reason in reasons.items() if reason}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what the data do not identify or speak against."""
        sentences = list(self.unidentified.values())
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
                f" p = {self.misfit.p:.2g}), so intervals are too narrow."
            )
        return sentences


def assess(
    runs: pd.DataFrame, variables: Sequence[Variable], *, num_draws: int = NUM_DRAWS, huber: float | None = None
) -> ScalingLaw:
    """Fit the law of the variables, test it, and give it intervals.

    Args:
        runs: a row per run with the variables (``n`` size, ``d`` samples or tokens), ``loss``, and ``seed`` if known.
        huber: the Huber scale, in log units; by default that of the residuals.

    Raises:
        FitError: the runs cannot determine the law, or there is no fit.
    """
    check_design(runs, variables)
    law = fit(runs, variables, huber=huber)
    draws, num_failed = resample(law, runs, num_draws=num_draws)
    return ScalingLaw(runs, law, draws, num_failed, predict_largest(runs, variables, huber), lack_of_fit(law, runs))


def resample(
    law: Law,
    runs: pd.DataFrame,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> tuple[pd.DataFrame, int]:
    """Refit the law to drawn settings if there are many (``draws_settings``), and otherwise to runs with drawn noise.

    Settings are drawn with replacement, so what the law lacks in a region, such as at few tokens per parameter, widens
    the intervals as noise does. A ladder has too few to lose any. Its log residuals are split into what a seed adds to
    all settings, and the rest of each run. Seeds are drawn as blocks over all settings, with replacement. The rest of a
    run, scaled up for its leverage, stays with it and changes its sign at random (wild bootstrap), so noise may differ
    between settings. To draw whole seeds would be simpler, but three are too few to draw.

    Returns:
        A row per refit that converged, a column per parameter; and the number of those that did not.

    Source: Efron and Tibshirani 1993, section 9.5 (settings, as in Besiroglu et al. 2024); Davidson and Flachaire 2008
    (signs; the scale is that of HC3, MacKinnon and White 1985); Davison and Hinkley 1997, section 3.8 (blocks).
    """
    rng = np.random.default_rng(seed)
    settings = list(runs.groupby(list(law.variables)).indices.values())
    code_R, effect_S = seed_effects(law, runs)
    num_seeds, num_runs = len(effect_S), len(runs)
    free_R = np.maximum(1 - law.leverage_R, MIN_FREE) / math.sqrt(num_runs / (num_runs - num_seeds + 1))
    rest_R = (law.residual_R - law.residual_R.mean() - effect_S[code_R]) / free_R
    effect_S = effect_S * math.sqrt(num_seeds / max(num_seeds - 1, 1))
    starts_KV = np.clip(law.exponents * np.array(RESTARTS)[:, None], *BOUNDS)
    rows = []
    for _ in range(num_draws):
        if draws_settings(law, runs):
            sample = runs.iloc[np.concatenate([settings[i] for i in rng.integers(len(settings), size=len(settings))])]
        else:
            noise_R = rng.choice(effect_S, num_seeds)[code_R] + rest_R * rng.choice((-1, 1), num_runs)
            sample = runs.assign(loss=law.predict(runs) * np.exp(noise_R))
        try:
            refit = fit(sample, law.variables, huber=law.huber, starts_KV=starts_KV, max_evaluations=max_evaluations)
        except NotConverged:
            continue
        rows.append(refit.parameters)
    return pd.DataFrame(rows, columns=list(law.parameters)), num_draws - len(rows)


def draws_settings(law: Law, runs: pd.DataFrame) -> bool:
    """True if intervals are those of drawn settings, because these are many and their runs share no seeds."""
    num_settings = len(runs[list(law.variables)].drop_duplicates())
    return num_settings >= MANY_SETTINGS * len(law.parameters) and not shares_seeds(runs, law.variables)


def seed_effects(law: Law, runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return each run's seed, int [R], and what each seed adds to all settings, [S]; a single 0 if seeds are no blocks.

    These are the least-squares effects beside free means of settings, so a missing run leaves the others as they are.
    """
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
    """Predict the largest level of each variable of which enough smaller levels remain, by a fit to the other runs.

    With many levels, those from the level at which the last tenth of the runs begins are held out.
    """
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
    if num < 2:
        return Estimate(value, 0.0, 0, 1)
    return Estimate(value, math.sqrt((num - 1) * float(np.var(value_S))), num - 1, num)


def lack_of_fit(law: Law, runs: pd.DataFrame) -> LackOfFit:
    """Compare the law with free means of settings, both fitted by least squares, by the F test of nested models.

    Seeds are blocks in both models where settings share them, and runs may be missing. The law is linear in its
    parameters around its fit.

    Source: Draper and Smith 1998, section 2.1; the noise is the interaction of settings and seeds.
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

    FLOPs = (fixed + per_size n) d is fitted to the runs, by least squares of relative errors. Sizes from a tenth of the
    smallest to ten times the largest are tried. ``is_inside`` says whether n and d are in the range of the runs.

    Source: Hoffmann et al. 2022, "Approach 3"; without a fixed cost, n grows as FLOPs^(b / (a + b)).
    """
    parts_RP = np.column_stack([np.ones(len(runs)), runs["n"]]) / (runs["flops"] / runs["d"]).to_numpy()[:, None]
    (fixed, per_size), _ = optimize.nnls(parts_RP, np.ones(len(runs)))
    rows = []
    for flops in np.geomspace(runs["flops"].min(), runs["flops"].max(), NUM_BUDGETS):
        grid = pd.DataFrame({"flops": flops, "n": np.geomspace(runs["n"].min() / 10, runs["n"].max() * 10, 5000)})
        grid = grid.assign(d=flops / (fixed + per_size * grid["n"]))
        grid = grid.assign(loss=law.predict(grid))
        rows.append(grid.iloc[int(grid["loss"].to_numpy().argmin())])
    table = pd.DataFrame(rows).reset_index(drop=True)
    is_inside = [table[name].between(runs[name].min(), runs[name].max()) for name in ("n", "d")]
    return table.assign(is_inside=is_inside[0] & is_inside[1])


def bounds(low: float, high: float) -> str:
    """Return the ends of an interval with three digits."""
    return f"[{digits(low)}, {digits(high)}]"


def digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent below a million."""
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(value) < 1e6 else text
