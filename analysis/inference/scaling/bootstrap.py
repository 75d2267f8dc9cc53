"""Intervals of a fitted law by the bootstrap, and which of its parameters the data identify."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from aimv2.analysis.inference.intervals import LEVEL, percentiles
from aimv2.analysis.inference.scaling.comparison import seed_effects, shares_seeds
from aimv2.analysis.inference.scaling.design import variables_of
from aimv2.analysis.inference.scaling.power_law import (
    BOUNDS,
    COEFFICIENTS,
    EXPONENTS,
    MAX_EVALUATIONS,
    Law,
    NotConverged,
    fit,
)

NUM_DRAWS = 200
STARTS = (1.0, 0.7, 1.4)  # times the exponents of the point estimate, and then within their bounds
MIN_FREE = 0.1  # share of a run's deviation that its residual shows, at least; a run that the fit follows shows none
MANY_SETTINGS = 10  # per parameter; then settings are a sample that can itself be drawn, and no ladder
MAX_FACTOR = 3.0  # between the ends of an identified exponent's interval
MAX_OFFSET_WIDTH = 0.5  # width of an identified offset's interval, as a share of the smallest loss
NEAR = 1.01  # ratio to a bound that counts as at it


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A law and its refits to resampled runs.

    Attributes:
        draws: a row per refit that converged, a column per parameter.
        num_failed: refits that did not converge.
    """

    law: Law
    runs: pd.DataFrame
    draws: pd.DataFrame
    num_failed: int
    level: float = LEVEL

    def interval(self, parameter: str) -> tuple[float, float]:
        """Return the percentile interval of a parameter; NaN without draws."""
        return percentiles(self.draws[parameter].to_numpy(dtype=float), self.level)

    @property
    def identified(self) -> Mapping[str, bool]:
        """By parameter, whether the data determine it."""
        return {name: name not in self.unidentified for name in self.law.form.parameters}

    @cached_property
    def unidentified(self) -> Mapping[str, str]:
        """By parameter that the data do not determine, a sentence that says why."""
        if self.draws.empty:
            return {name: f"{name} is not identified: no refit converged." for name in self.law.form.parameters}
        found = {}
        for variable in self.law.form.variables:
            exponent, terms = EXPONENTS[variable], self.law.form.terms
            coefficient = next(COEFFICIENTS[term[0]] for term in terms if variable in term)
            if reason := self._why_no_term(coefficient) or self._why_no_exponent(exponent):
                found[exponent] = f"{exponent} is not identified: {reason}."
                found[coefficient] = f"{coefficient} is not identified: {reason}."
        if self.law.form.has_offset and (reason := self._why_no_offset()):
            found["E"] = f"E is not identified: {reason}."
        return found

    def _why_no_term(self, coefficient: str) -> str:
        low, high = self.interval(coefficient)
        if self.law.parameters[coefficient] == 0 or low == 0:
            return f"the interval of {coefficient}, {bounds(low, high)}, reaches 0, so the data may not need its term"
        return ""

    def _why_no_exponent(self, exponent: str) -> str:
        low, high = self.interval(exponent)
        text = f"the interval of {exponent}, {bounds(low, high)},"
        if low < BOUNDS[0] * NEAR or high > BOUNDS[1] / NEAR:
            return f"{text} reaches the end of the range of the search, {bounds(*BOUNDS)}"
        if high > MAX_FACTOR * low:
            return f"{text} is wider than a factor of {MAX_FACTOR:g}"
        return ""

    def _why_no_offset(self) -> str:
        low, high = self.interval("E")
        if self.law.parameters["E"] == 0 or low == 0:
            return f"its interval, {bounds(low, high)}, reaches 0, so the data do not show where the loss levels off"
        if high - low > MAX_OFFSET_WIDTH * float(self.runs["loss"].min()):
            return f"its interval, {bounds(low, high)}, is wider than {MAX_OFFSET_WIDTH:g} of the smallest loss"
        return ""


def resample(
    law: Law,
    runs: pd.DataFrame,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Bootstrap:
    """Refit the law to resampled runs: to drawn settings if there are many, otherwise to runs with drawn noise.

    Many settings without seeds as blocks are a sample, and are drawn with replacement, each with its runs. So whatever
    the law lacks in a region, such as at few tokens per parameter, widens the intervals as noise does.

    A ladder has too few settings to lose any, and they are kept. The log residuals are split into what a seed adds to
    all settings, and the rest of each run. Seeds are drawn as blocks over all settings, with replacement. The rest of a
    run stays with it and changes its sign at random, so that noise may differ between settings (wild bootstrap). Both
    are added to the fitted law. The fit follows each run by its leverage, and the rest is scaled up for that. Where
    settings share no seeds, there is the rest alone.

    To draw whole seeds instead would be simpler, but three seeds are three independent values, too few to resample.

    Args:
        seed: of the random draws; the same seed gives the same intervals.
        max_evaluations: of a refit, from one start.

    Raises:
        FitError: a refit is not possible at all, such as with a loss that is not finite.

    Source: Efron and Tibshirani 1993, section 9.5 (settings, as in Besiroglu et al. 2024); Davidson and Flachaire 2008
    (signs; the scale is that of HC3, MacKinnon and White 1985); Davison and Hinkley 1997, section 3.8 (blocks).
    """
    rng = np.random.default_rng(seed)
    samples = _drawn_settings(runs, rng) if draws_settings(law, runs) else _drawn_noise(law, runs, rng)
    starts = np.clip(law.exponents * np.array(STARTS)[:, None], *BOUNDS)
    rows, num_failed = [], 0
    for drawn in itertools.islice(samples, num_draws):
        try:
            refit = fit(law.form, drawn, huber=law.huber, exponents_KV=starts, max_evaluations=max_evaluations)
        except NotConverged:
            num_failed += 1
        else:
            rows.append(refit.parameters)
    return Bootstrap(law, runs, pd.DataFrame(rows, columns=list(law.form.parameters)), num_failed)


def draws_settings(law: Law, runs: pd.DataFrame) -> bool:
    """True if intervals are those of drawn settings, because these are many and their runs share no seeds."""
    num_settings = len(runs[variables_of(runs)].drop_duplicates())
    return num_settings >= MANY_SETTINGS * len(law.form.parameters) and not shares_seeds(runs)


def _drawn_settings(runs: pd.DataFrame, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    rows = list(runs.groupby(variables_of(runs)).indices.values())
    while True:
        yield runs.iloc[np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])]


def _drawn_noise(law: Law, runs: pd.DataFrame, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    effect_R = seed_effects(law.residual_R, runs)
    rest_R = law.residual_R - law.residual_R.mean() - effect_R
    code_R, effect_S = np.zeros(len(runs), dtype=int), np.zeros(1)
    if shares_seeds(runs):
        code_R = pd.factorize(runs["seed"])[0]
        effect_S = pd.Series(effect_R).groupby(code_R).first().to_numpy()
    num_seeds, num_runs = len(effect_S), len(runs)
    rest_R = rest_R / np.maximum(1 - law.leverage_R, MIN_FREE) * math.sqrt(num_runs / (num_runs - num_seeds + 1))
    effect_S = effect_S * math.sqrt(num_seeds / max(num_seeds - 1, 1))
    fitted_R = law.predict(runs)
    while True:
        noise_R = rng.choice(effect_S, num_seeds)[code_R] + rest_R * rng.choice((-1, 1), num_runs)
        yield runs.assign(loss=fitted_R * np.exp(noise_R))


def bounds(low: float, high: float) -> str:
    """Return the ends of an interval with three digits."""
    return f"[{digits(low)}, {digits(high)}]"


def digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent below a million."""
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(value) < 1e6 else text
