"""Main effects and interactions of factors, with seeds as blocks.

The model is value = seed + effects of factors + error, fitted by least squares with sum-to-zero codes. An effect of a
factor is thus a difference of means that weigh all levels of the other factors equally, however many seeds they have,
and a test is one of type III. Adding a number to all values of a seed changes no effect.

Sources: Yates 1940 (incomplete blocks); Scheffé 1959, chapter 4 (the hypotheses); Steiger 2004 (intervals of effects in
standard deviations); Holm 1979.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special, stats

from aimv2.analysis.inference.contrasts import spreads
from aimv2.analysis.inference.factor_model import Fit, Levels, Term, identified, is_at
from aimv2.analysis.inference.intervals import Estimate

TIMES = " × "


@dataclass(frozen=True)
class Effect:
    """A difference that a level makes, or, of an interaction, a difference of differences.

    Attributes:
        term: the factors, joined by ``TIMES``.
        levels: by factor, the level and the reference level that it is compared with.
        estimate: in the metric's unit; its interval holds for this effect alone.
        size: the estimate in standard deviations of the error, with its interval; NaN without an interval.
    """

    term: str
    levels: Mapping[str, tuple[str, str]]
    estimate: Estimate
    size: float
    size_low: float
    size_high: float

    @property
    def name(self) -> str:
        parts = [f"{level} − {reference}" for level, reference in self.levels.values()]
        return parts[0] if len(parts) == 1 else TIMES.join(f"({part})" for part in parts)


@dataclass(frozen=True)
class TermTest:
    """The F test of a main effect or an interaction.

    Attributes:
        statistic: F, with ``df`` and ``error_df`` degrees of freedom; NaN if the term has no test.
        adjusted_p: corrected by Holm for all terms of the analysis.
    """

    term: str
    df: int
    error_df: int
    statistic: float = math.nan
    p: float = math.nan
    adjusted_p: float = math.nan

    @property
    def has_test(self) -> bool:
        return not math.isnan(self.statistic)


@dataclass(frozen=True)
class FactorAnalysis:
    """The effects of factors on a metric.

    Attributes:
        effects: of every identified term, its levels against the reference levels.
        sd: the standard deviation of the error within seeds; NaN if there is none to estimate it from.
        notes: what limits the analysis, a sentence each.
    """

    tests: tuple[TermTest, ...]
    effects: tuple[Effect, ...]
    sd: float
    notes: tuple[str, ...]


def analyse(runs: pd.DataFrame, factors: Levels) -> FactorAnalysis:
    """Estimate and test the main effects of factors and their interactions.

    Interactions of two factors, then of three and so on, are part of the model if all of that order are identified. A
    level, or a combination of levels, that one seed ran has no interval and no test.

    Args:
        runs: a row per run: ``seed``, ``value``, and a column per factor. Rows without a value are left out.
        factors: levels by factor, in the order of reports. Effects compare with the first level that ran.
    """
    data = runs.dropna(subset=["value"])
    present = {name: [one for one in levels if (data[name] == one).any()] for name, levels in factors.items()}
    constant = [name for name, levels in present.items() if len(levels) < 2]
    notes = [f"Only one level of {name} has results, so it has no effect to estimate." for name in constant]
    varied = {name: levels for name, levels in present.items() if name not in constant}
    terms, refused = identified(data, varied) if varied else ([], [])
    if not terms:
        return FactorAnalysis((), (), math.nan, (*notes, *refused))
    fit = Fit(data, varied, terms)
    return FactorAnalysis(
        tuple(_tests(fit)),
        tuple(effect for term in fit.terms for effect in _effects(fit, term)),
        fit.sd,
        (*notes, *refused, *_notes(fit)),
    )


def _tests(fit: Fit) -> list[TermTest]:
    """Return the F test of every term; p values are corrected by Holm."""
    tests = []
    for term, columns in fit.columns.items():
        df, name = columns.stop - columns.start, TIMES.join(term)
        combinations = itertools.product(*(fit.factors[factor] for factor in term))
        fewest = min(fit.num_seeds(dict(zip(term, one, strict=True))) for one in combinations)
        if fewest < 2 or math.isnan(fit.sd):
            tests.append(TermTest(name, df, fit.df))
            continue
        effect, covariance = fit.effect_K[columns], fit.covariance_KK[columns, columns] * fit.sd**2
        statistic = float(effect @ np.linalg.solve(covariance, effect)) / df
        p = float(stats.f.sf(statistic, df, fit.df))
        tests.append(TermTest(name, df, fit.df, statistic, p))
    ordered = sorted((one.p, one.term) for one in tests if one.has_test)
    steps = [min(p * (len(ordered) - place), 1.0) for place, (p, _) in enumerate(ordered)]
    adjusted = dict(zip([term for _, term in ordered], itertools.accumulate(steps, max), strict=True))
    return [replace(one, adjusted_p=adjusted.get(one.term, math.nan)) for one in tests]


def _effects(fit: Fit, term: Term) -> list[Effect]:
    """Return the contrasts of a term's levels with the reference levels."""
    found = []
    for levels, weight_K in fit.contrasts(term).items():
        pairs = {name: (one, fit.factors[name][0]) for name, one in zip(term, levels, strict=True)}
        corners = [dict(zip(term, corner, strict=True)) for corner in itertools.product(*pairs.values())]
        mean = float(weight_K @ fit.effect_K)
        num_seeds = min(map(fit.num_seeds, corners))
        has_interval = num_seeds > 1 and not math.isnan(fit.sd)
        scale = math.sqrt(weight_K @ fit.covariance_KK @ weight_K)  # standard error / sd
        error = scale * fit.sd if has_interval else 0.0
        estimate = Estimate(mean, error, fit.df, num_seeds, error_from="pooled")
        found.append(Effect(TIMES.join(term), pairs, estimate, *_size(estimate, scale)))
    return found


def _size(estimate: Estimate, scale: float) -> tuple[float, float, float]:
    """Return the effect in standard deviations of the error, and its interval from the noncentral t distribution."""
    if not estimate.has_interval:
        return math.nan, math.nan, math.nan
    statistic, alpha = estimate.mean / estimate.error, 1 - estimate.level
    low, high = (float(special.nctdtrinc(estimate.df, p, statistic)) for p in (1 - alpha / 2, alpha / 2))
    return statistic * scale, low * scale, high * scale


def _notes(fit: Fit) -> list[str]:
    """Say what is unbalanced, alone, or spreads more than the rest."""
    each = {
        ", ".join(levels): fit.data[is_at(fit.data, dict(zip(fit.factors, levels, strict=True)))]
        for levels in itertools.product(*fit.factors.values())
    }
    wide = pd.DataFrame({name: own.set_index("seed")["value"] for name, own in each.items() if len(own)})
    names = [str(name) for name in wide]
    counts = dict(zip(names, wide.count(), strict=True))
    notes = []
    if alone := [name for name, count in counts.items() if count == 1]:
        notes.append(f"One seed only, so nothing that rests on it alone has an interval or a test: {'; '.join(alone)}.")
    if wide.isna().to_numpy().any():
        numbers = "; ".join(f"{name}: {count}" for name, count in counts.items())
        notes.append(f"Runs are missing, but levels weigh equally all the same. Seeds: {numbers}.")
    if math.isnan(fit.sd):
        notes.append("There is no spread between seeds to judge effects by, so no effect has an interval or a test.")
    elif apart := spreads(wide.to_numpy(float)).apart:
        wider = "; ".join(names[number] for number in sorted(apart))
        notes.append(f"All share one error, although the spread of some is clearly larger: {wider}.")
    return notes
