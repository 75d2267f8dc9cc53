"""The linear model of seeds and factors: which terms runs identify, and their least-squares fit.

Letters: N runs, K columns of the design, of which the last are those of the terms.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import pandas as pd

from aimv2.analysis.inference.intervals import is_rounding, size_of

Levels = Mapping[str, Sequence[str]]
Term = tuple[str, ...]


# A design has singular values of 0, or larger than about 1 / (number of runs): a tolerance between that and rounding,
# as a share of the largest, decides a rank the same way everywhere.
RANK_TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class Fit:
    """The least-squares fit of seeds and terms, with sum-to-zero codes.

    Attributes:
        data: a row per run: ``seed``, ``value``, and a column per factor.
        factors: levels by factor; effects compare with the first.
        terms: main effects and interactions, as tuples of factors.
    """

    data: pd.DataFrame
    factors: Levels
    terms: Sequence[Term]

    @cached_property
    def columns(self) -> dict[Term, slice]:
        """The columns of each term."""
        found, start = {}, self.data["seed"].nunique()
        for term in self.terms:
            stop = start + math.prod(len(self.factors[name]) - 1 for name in term)
            found[term] = slice(start, stop)
            start = stop
        return found

    @cached_property
    def design_NK(self) -> np.ndarray:
        return _design(self.data, self.factors, self.terms)

    @cached_property
    def effect_K(self) -> np.ndarray:
        value_N = self.data["value"].to_numpy(float)
        effect_K = self.covariance_KK @ self.design_NK.T @ (value_N - value_N.mean())
        effect_K[0] += value_N.mean()
        return np.asarray(effect_K)

    @cached_property
    def covariance_KK(self) -> np.ndarray:
        """In units of the error's variance; the terms are ``identified``, so there is an inverse."""
        return np.asarray(np.linalg.inv(self.design_NK.T @ self.design_NK))

    @property
    def df(self) -> int:
        return len(self.data) - int(self.design_NK.shape[1])

    @cached_property
    def sd(self) -> float:
        """The standard deviation of the error; NaN without degrees of freedom or spread."""
        value_N = self.data["value"].to_numpy(float)
        residual = float(((value_N - self.design_NK @ self.effect_K) ** 2).sum())
        sd = math.sqrt(residual / self.df) if self.df > 0 else math.nan
        return math.nan if is_rounding(sd, size_of(value_N)) else sd

    def contrasts(self, term: Term) -> dict[tuple[str, ...], np.ndarray]:
        """Return, by levels other than the reference levels, the weights [K] of their contrast with those."""
        found = {}
        for levels in itertools.product(*(self.factors[name][1:] for name in term)):
            parts = [_difference(self.factors[name], one) for name, one in zip(term, levels, strict=True)]
            weight_K = np.zeros(self.design_NK.shape[1])
            weight_K[self.columns[term]] = reduce(np.kron, parts)
            found[levels] = weight_K
        return found

    def num_seeds(self, levels: Mapping[str, str]) -> int:
        """Return the number of seeds that ran a combination of levels, whatever the levels of other factors."""
        return len(set(self.data["seed"].to_numpy()[is_at(self.data, levels)]))


def is_at(data: pd.DataFrame, levels: Mapping[str, str]) -> np.ndarray:
    """Return True for the runs with these levels, bool [N]."""
    return np.asarray(np.logical_and.reduce([data[name].to_numpy() == one for name, one in levels.items()]))


def _code(count: int) -> np.ndarray:
    """Return sum-to-zero codes of levels, float [count, count - 1]."""
    return np.vstack([np.eye(count - 1), -np.ones(count - 1)])


def _design(data: pd.DataFrame, factors: Levels, terms: Sequence[Term]) -> np.ndarray:
    """Return the columns of the mean, of seeds, and of each term."""
    seeds = sorted(data["seed"].unique())
    coded = {
        name: _code(len(levels))[[list(levels).index(one) for one in data[name]]]
        for name, levels in [("seed", seeds), *factors.items()]
    }
    columns = [np.ones((len(data), 1)), coded["seed"]]
    columns += [reduce(_products, [coded[name] for name in term]) for term in terms]
    return np.hstack(columns)


def _products(one_NI: np.ndarray, other_NJ: np.ndarray) -> np.ndarray:
    """Return the products of each two columns, [N, I * J]."""
    return np.asarray(np.einsum("ni,nj->nij", one_NI, other_NJ).reshape(len(one_NI), -1))


def identified(data: pd.DataFrame, factors: Levels) -> tuple[list[Term], list[str]]:
    """Return the terms that these runs identify, and why others are left out.

    Interactions of an order are identified together or not at all, since which of two aliased ones is there is unknown.
    """
    terms: list[Term] = []
    for order in range(1, len(factors) + 1):
        more = [*terms, *itertools.combinations(factors, order)]
        design = _design(data, factors, more)
        if len(design) == 0 or np.linalg.matrix_rank(design, rtol=RANK_TOLERANCE) < design.shape[1]:
            if order == 1:
                return [], ["No effect is identified: too few combinations of levels share seeds."]
            return terms, [_why_left_out(data, factors, order)]
        terms = more
    return terms, []


def _why_left_out(data: pd.DataFrame, factors: Levels, order: int) -> str:
    """Say that interactions are not part of the model, and why."""
    ran = set(data[list(factors)].itertuples(index=False, name=None))
    absent = [", ".join(one) for one in itertools.product(*factors.values()) if one not in ran]
    cause = f"no run of {'; '.join(absent)}" if absent else "too few combinations ran with the same seed"
    which = "Interactions" if order == 2 else f"Interactions of {order} factors"
    return f"{which} are not identified ({cause}), so the other effects hold only if there are none."


def _difference(levels: Sequence[str], one: str) -> np.ndarray:
    code = _code(len(levels))
    return np.asarray(code[list(levels).index(one)] - code[0])
