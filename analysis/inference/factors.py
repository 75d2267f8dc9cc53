"""Main effects and interactions of factors, with seeds as blocks.

The model is value = seed + effects of factors + error, fitted by least squares with sum-to-zero codes: an effect is a
difference of means that weigh all levels of the other factors equally, however many seeds they have, and a test is one
of type III. Sources: Yates 1940 (incomplete blocks); Scheffé 1959, chapter 4 (the hypotheses); Steiger 2004 (intervals
of effects in standard deviations); Holm 1979.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from aimv2.analysis.inference.contrasts import spreads
from aimv2.analysis.inference.intervals import Estimate, is_rounding, size_of

TIMES = " × "
Levels = Mapping[str, Sequence[str]]
# A design has singular values of 0, or larger than about 1 / (number of runs): a tolerance between that and rounding,
# as a share of the largest, decides a rank the same way everywhere.
RANK_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Effect:
    """A difference that a level makes, or, of an interaction, a difference of differences."""

    term: str  # the factors, joined by ``TIMES``
    levels: Mapping[str, tuple[str, str]]  # by factor, the level and the reference level that it is compared with
    estimate: Estimate  # in the metric's unit; its interval holds for this effect alone
    size: float  # the estimate in standard deviations of the error, with its interval; NaN without an interval
    size_low: float
    size_high: float

    @property
    def name(self) -> str:
        parts = [f"{level} − {reference}" for level, reference in self.levels.values()]
        return parts[0] if len(parts) == 1 else TIMES.join(f"({part})" for part in parts)


@dataclass(frozen=True)
class TermTest:
    """The F test of a term, NaN without one; ``adjusted_p`` is corrected by Holm for all terms of the analysis."""

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
    """The tests of factors, the effects of every identified term, the SD of the error, and what limits the analysis."""

    tests: tuple[TermTest, ...]
    effects: tuple[Effect, ...]
    sd: float
    notes: tuple[str, ...]


def analyse(runs: pd.DataFrame, factors: Levels) -> FactorAnalysis:
    """Estimate and test the main effects of factors and their interactions.

    Runs have a row each with ``seed``, ``value``, and a column per factor; effects compare with a factor's first level
    that ran. Interactions of two factors, of three and so on are part of the model if all of that order are identified.
    A level, or a combination of levels, that one seed ran has no interval and no test.
    """
    runs = runs.dropna(subset=["value"])
    present = {name: [level for level in levels if (runs[name] == level).any()] for name, levels in factors.items()}
    varied = {name: levels for name, levels in present.items() if len(levels) > 1}
    constant = [name for name in present if name not in varied]
    notes = [f"Only one level of {name} has results, so it has no effect to estimate." for name in constant]
    model = None
    for order in range(1, len(varied) + 1):
        larger = _Model(runs, varied, order)
        if not larger.is_identified:
            notes.append(_why_left_out(runs, varied, order))
            break
        model = larger
    if model is None:
        return FactorAnalysis((), (), math.nan, tuple(notes))
    effects = tuple(effect for term in model.terms for effect in model.effects(term))
    return FactorAnalysis(model.tests(), effects, model.sd, (*notes, *_notes(model)))


class _Model:
    """The least-squares fit of seeds and of all interactions of factors up to an order."""

    def __init__(self, runs: pd.DataFrame, factors: Levels, order: int) -> None:
        from patsy import dmatrix  # here and below, because it and statsmodels take seconds to import

        self.runs, self.factors = runs, factors
        self._column = {name: f"f{number}" for number, name in enumerate(factors)}  # a name may be any text
        self._term = {name: f"C({column}, Sum)" for name, column in self._column.items()}
        self.terms = [term for size in range(1, order + 1) for term in itertools.combinations(factors, size)]
        # Values around their mean: rounding grows with them.
        self._data = pd.DataFrame({"seed": runs["seed"], "value": runs["value"] - runs["value"].mean()})
        for name, levels in factors.items():
            self._data[self._column[name]] = pd.Categorical(runs[name], pd.Index(levels))
        seeds = ["C(seed, Sum)"] * (runs["seed"].nunique() > 1)
        self._formula = " + ".join([*seeds, f"({' + '.join(self._term.values())}) ** {order}"])
        self._design = dmatrix(self._formula, self._data)
        self.df = len(runs) - int(self._design.shape[1])  # of the error
        rank = np.linalg.matrix_rank(self._design, rtol=RANK_TOLERANCE) if len(runs) else 0
        self.is_identified = int(rank) == int(self._design.shape[1])

    @cached_property
    def _fit(self) -> Any:
        from statsmodels.formula.api import ols

        return ols(f"value ~ {self._formula}", self._data).fit()

    @cached_property
    def sd(self) -> float:
        """The standard deviation of the error; NaN without degrees of freedom or spread."""
        sd = math.sqrt(self._fit.ssr / self.df) if self.df > 0 else math.nan
        return math.nan if is_rounding(sd, size_of(self.runs["value"])) else sd

    def num_seeds(self, levels: Mapping[str, str]) -> int:
        """Return the number of seeds that ran a combination of levels, whatever the levels of other factors."""
        return int(self.runs.loc[_is_at(self.runs, levels), "seed"].nunique())

    def tests(self) -> tuple[TermTest, ...]:
        """Return the F test of type III of every term, corrected by Holm."""
        from statsmodels.stats.anova import anova_lm
        from statsmodels.stats.multitest import multipletests

        table = None if math.isnan(self.sd) else anova_lm(self._fit, typ=3)
        tests = []
        for term in self.terms:
            df = math.prod(len(self.factors[name]) - 1 for name in term)
            cells = _combinations({name: self.factors[name] for name in term})
            test = TermTest(TIMES.join(term), df, self.df)
            if table is not None and min(map(self.num_seeds, cells)) > 1:
                row = table.loc[":".join(self._term[name] for name in term)]
                test = replace(test, statistic=float(row["F"]), p=float(row["PR(>F)"]))
            tests.append(test)
        p_values = [test.p for test in tests if test.has_test]
        adjusted = iter(multipletests(p_values, method="holm")[1] if p_values else [])
        return tuple(replace(test, adjusted_p=float(next(adjusted))) if test.has_test else test for test in tests)

    def effects(self, term: tuple[str, ...]) -> Iterator[Effect]:
        """Yield the contrasts of a term's levels with the reference levels: the other factors' levels weigh equally."""
        from patsy import build_design_matrices

        grid = pd.DataFrame(_combinations(self.factors)).assign(seed=self.runs["seed"].iloc[0])
        (rows_GK,) = build_design_matrices([self._design.design_info], grid.rename(columns=self._column))
        covariance_KK = self._fit.normalized_cov_params.to_numpy()
        for levels in itertools.product(*(self.factors[name][1:] for name in term)):
            pairs = {name: (level, self.factors[name][0]) for name, level in zip(term, levels, strict=True)}
            corners = _combinations(pairs)
            weight_K = np.zeros(self._design.shape[1])
            for corner in corners:
                sign = math.prod(1 if corner[name] == level else -1 for name, (level, _) in pairs.items())
                weight_K += sign * np.asarray(rows_GK)[_is_at(grid, corner)].mean(axis=0)
            num_seeds = min(map(self.num_seeds, corners))
            has_interval = num_seeds > 1 and not math.isnan(self.sd)
            scale = math.sqrt(weight_K @ covariance_KK @ weight_K)  # standard error / sd
            mean = float(weight_K @ self._fit.params.to_numpy())
            error = scale * self.sd if has_interval else 0.0
            estimate = Estimate(mean, error, self.df, num_seeds, error_from="pooled")
            yield Effect(TIMES.join(term), pairs, estimate, *_size(estimate, scale))


def _combinations(levels: Levels) -> list[dict[str, str]]:
    return [dict(zip(levels, cell, strict=True)) for cell in itertools.product(*levels.values())]


def _is_at(runs: pd.DataFrame, levels: Mapping[str, str]) -> np.ndarray:
    return np.asarray((runs[list(levels)] == pd.Series(levels)).all(axis=1))


def _size(estimate: Estimate, scale: float) -> tuple[float, float, float]:
    """Return the effect in standard deviations of the error, and its interval from the noncentral t distribution."""
    if not estimate.has_interval:
        return math.nan, math.nan, math.nan
    statistic, alpha = estimate.mean / estimate.error, 1 - estimate.level
    low, high = (float(special.nctdtrinc(estimate.df, p, statistic)) for p in (1 - alpha / 2, alpha / 2))
    return statistic * scale, low * scale, high * scale


def _why_left_out(runs: pd.DataFrame, factors: Levels, order: int) -> str:
    """Say that effects of an order are not part of the model, and why."""
    if order == 1:
        return "No effect is identified: too few combinations of levels share seeds."
    absent = [", ".join(cell.values()) for cell in _combinations(factors) if not _is_at(runs, cell).any()]
    cause = f"no run of {'; '.join(absent)}" if absent else "too few combinations ran with the same seed"
    which = "Interactions" if order == 2 else f"Interactions of {order} factors"
    return f"{which} are not identified ({cause}), so the other effects hold only if there are none."


def _notes(model: _Model) -> list[str]:
    """Say what is unbalanced, alone, or spreads more than the rest."""
    cells = {", ".join(cell.values()): model.runs[_is_at(model.runs, cell)] for cell in _combinations(model.factors)}
    wide = pd.DataFrame({name: runs.set_index("seed")["value"] for name, runs in cells.items() if len(runs)})
    counts = wide.count()
    notes = []
    if alone := [str(name) for name, count in counts.items() if count == 1]:
        notes.append(f"One seed only, so nothing that rests on it alone has an interval or a test: {'; '.join(alone)}.")
    if wide.isna().to_numpy().any():
        numbers = "; ".join(f"{name}: {count}" for name, count in counts.items())
        notes.append(f"Runs are missing, but levels weigh equally all the same. Seeds: {numbers}.")
    if math.isnan(model.sd):
        notes.append("There is no spread between seeds to judge effects by, so no effect has an interval or a test.")
    elif apart := spreads(wide.to_numpy(float)).apart:
        wider = "; ".join(str(wide.columns[number]) for number in sorted(apart))
        notes.append(f"All share one error, although the spread of some is clearly larger: {wider}.")
    return notes
