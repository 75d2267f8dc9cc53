"""Which form predicts: its error on the largest scale, which the fit has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from aimv2.analysis.inference.contrasts import Blocks
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate
from aimv2.analysis.inference.scaling.design import MIN_NOISE, check_design, variables_of
from aimv2.analysis.inference.scaling.power_law import (
    LEAST_SQUARES,
    FitError,
    Form,
    Law,
    Variable,
    fit,
    forms_of,
    orthonormal,
)

HELD_OUT_SHARE = 0.1  # of the runs, at least; with few levels, the largest level of a variable is more
MIN_LEVELS = 3  # of a variable among the fitted runs: an offset, a coefficient and an exponent need three
ALPHA = 0.01  # of the test of lack of fit, which should seldom warn by chance


@dataclass(frozen=True, eq=False)
class Split:
    """The runs to fit and those to predict.

    Attributes:
        text: which runs are held out.
    """

    fitted: pd.DataFrame
    held_out: pd.DataFrame
    text: str


@dataclass(frozen=True, eq=False)
class FormTrial:
    """A form's fit to all runs, and its test on the held-out ones.

    Attributes:
        law: the fit to all runs; None if the form cannot be fitted.
        tested: the fit to the runs that are not held out; None if there is none.
        error: root mean square of log residuals on the held-out runs, of a fit to the others; its interval is that of
            the jackknife over seeds, and missing if settings do not share seeds. ``NO_ESTIMATE`` if it was not tested.
        error_S: the same without each seed in turn.
        reason: why a fit is missing; empty if none is.
    """

    form: Form
    law: Law | None
    error: Estimate
    error_S: np.ndarray
    reason: str = ""
    tested: Law | None = None

    def minus(self, other: "FormTrial") -> Estimate:
        """Return the difference of errors on the held-out runs, with its interval."""
        return jackknife(self.error.mean - other.error.mean, self.error_S - other.error_S)


@dataclass(frozen=True)
class LackOfFit:
    """Whether residuals of settings exceed what seeds explain: the F test with replicates.

    Attributes:
        noise_sd: relative standard deviation of a run over seeds, without what a seed adds to all settings.
        misfit_sd: relative standard deviation of the settings' residual means beyond noise; 0 if there is none.
        p: NaN without replicates, or if all are equal.
    """

    noise_sd: float
    misfit_sd: float
    p: float

    @property
    def is_shown(self) -> bool:
        return self.p < ALPHA


def hold_out_largest(runs: pd.DataFrame, variables: Sequence[Variable]) -> Split:
    """Split off the largest level of each variable of which enough smaller levels remain.

    With many levels, those from the level at which the last tenth of the runs begins are held out.
    """
    is_held = np.zeros(len(runs), dtype=bool)
    texts = []
    for variable in variables:
        value_R = runs[variable].to_numpy(dtype=float)
        smallest = np.quantile(value_R, 1 - HELD_OUT_SHARE, method="lower")
        if len(np.unique(value_R[value_R < smallest])) >= MIN_LEVELS:
            is_held |= value_R >= smallest
            number = f"{smallest:,.0f}" if 1 <= smallest < 1e8 else f"{smallest:.3g}"
            texts.append(f"{variable} {'=' if smallest == value_R.max() else '>='} {number}")
    return Split(runs[~is_held], runs[is_held], " or ".join(texts))


def compare(
    runs: pd.DataFrame, variables: Sequence[Variable], huber: float | None = None
) -> tuple[Split, list[FormTrial]]:
    """Fit all forms of the variables to all runs, and to those that are not held out; ``huber`` as in ``fit``."""
    split = hold_out_largest(runs, variables)
    return split, [_trial(form, runs, split, huber) for form in forms_of(variables)]


def _trial(form: Form, runs: pd.DataFrame, split: Split, huber: float | None) -> FormTrial:
    try:
        check_design(form, runs)
        law = fit(form, runs, huber=huber)
    except FitError as reason:
        return FormTrial(form, None, NO_ESTIMATE, np.array([]), str(reason))
    untested = FormTrial(form, law, NO_ESTIMATE, np.array([]), "nothing is held out")
    if not len(split.held_out):
        return untested
    seeds = split.fitted["seed"].unique().tolist() if shares_seeds(runs) else []
    try:
        tested = fit(form, split.fitted, huber=huber)
        without = [[part[part["seed"] != seed] for part in (split.fitted, split.held_out)] for seed in seeds]
        error_S = np.array([fit(form, fitted, huber=huber).log_error(held_out) for fitted, held_out in without])
    except FitError as reason:
        return replace(untested, reason=f"without the held-out runs: {reason}")
    error = jackknife(tested.log_error(split.held_out), error_S)
    return replace(untested, error=error, error_S=error_S, reason="", tested=tested)


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
    fitted = fit(law.form, runs, huber=LEAST_SQUARES)
    setting_RK = _dummies(runs.groupby(variables_of(runs)).ngroup())
    block_RS = _dummies(runs["seed"]) if shares_seeds(runs) else np.zeros((len(runs), 0))
    rest, df_rest = _unexplained(fitted.residual_R, np.hstack([setting_RK, block_RS]))
    rest_of_law, df_law = _unexplained(fitted.residual_R, np.hstack([fitted.jacobian_RP, block_RS]))
    if df_rest < 1:
        return LackOfFit(math.nan, math.nan, math.nan)
    noise, df_misfit = rest / df_rest, df_law - df_rest
    if df_misfit < 1 or noise < MIN_NOISE**2:
        return LackOfFit(math.sqrt(noise), math.nan, math.nan)
    misfit = max(rest_of_law - rest, 0) / df_misfit
    per_setting = len(runs) / setting_RK.shape[1]
    p = float(stats.f.sf(misfit / noise, df_misfit, df_rest))
    return LackOfFit(math.sqrt(noise), math.sqrt(max(misfit - noise, 0) / per_setting), p)


def seed_effects(residual_R: np.ndarray, runs: pd.DataFrame) -> np.ndarray:
    """Return what each run's seed adds to all settings [R], with mean 0; zeros unless seeds are blocks.

    These are the least-squares effects beside free means of settings, so a missing run leaves the others as they are.
    """
    if not shares_seeds(runs):
        return np.zeros(len(residual_R))
    setting_R, (seed_R, seeds) = runs.groupby(variables_of(runs)).ngroup().to_numpy(), pd.factorize(runs["seed"])
    residual_SA = np.full((len(seeds), setting_R.max() + 1), math.nan)
    residual_SA[seed_R, setting_R] = residual_R
    effect_R = Blocks(residual_SA).seed_effect_S[seed_R]
    return np.asarray(effect_R - effect_R.mean())


def shares_seeds(runs: pd.DataFrame) -> bool:
    """True if seeds are blocks."""
    return not why_no_blocks(runs)


def why_no_blocks(runs: pd.DataFrame) -> str:
    """Return why seeds are no blocks; empty if they are.

    They are blocks if there are two or more, each once in a setting and in at least half of the settings.
    """
    if "seed" not in runs:
        return "the seeds of the runs are not known"
    if runs["seed"].nunique() < 2:
        return "all runs have the same seed"
    counts = runs.groupby([*variables_of(runs), "seed"]).size().unstack(fill_value=0).to_numpy()
    if counts.max() > 1:
        return "a setting has several runs of one seed"
    return "" if counts.mean(axis=0).min() >= 0.5 else "a seed is in fewer than half of the settings"


def _dummies(labels: "pd.Series[int]") -> np.ndarray:
    """Return a column per label, 1 where a run has it."""
    return np.asarray(pd.get_dummies(labels), dtype=float)


def _unexplained(values_R: np.ndarray, design_RP: np.ndarray) -> tuple[float, int]:
    """Return the sum of squares that a linear model leaves, and its degrees of freedom."""
    columns = orthonormal(design_RP)
    return float(np.sum((values_R - columns @ (columns.T @ values_R)) ** 2)), len(values_R) - columns.shape[1]
