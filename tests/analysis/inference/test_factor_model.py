import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.inference.factor_model import Fit, identified, mixed_model_difference

FACTORS = {"A": ["a0", "a1", "a2"], "B": ["b0", "b1"]}
TERMS = [("A",), ("B",), ("A", "B")]


def table(rng=0, seeds=4, missing=(), shared=3.0):
    rng, rows = np.random.default_rng(rng), []
    for seed, number in itertools.product(range(seeds), range(6)):
        if (seed, number) not in missing:
            rows.append((seed, f"a{number // 2}", f"b{number % 2}", shared * seed**2 + rng.normal()))
    return pd.DataFrame(rows, columns=["seed", "A", "B", "value"])


def test_half_fraction_identifies_main_effects_only():
    """Two of four interactions could be fitted, but which of two aliased ones is there is unknown."""
    rows = [
        (seed, *levels, 1.0 * seed)
        for seed in range(3)
        for levels in itertools.product("01", repeat=4)
        if sum(map(int, levels)) % 2 == 0
    ]
    data = pd.DataFrame(rows, columns=["seed", *"ABCD", "value"])
    terms, why = identified(data, {name: ["0", "1"] for name in "ABCD"})
    assert terms == [("A",), ("B",), ("C",), ("D",)]
    assert why[0].startswith("Interactions are not identified (no run of 0, 0, 0, 1; ")


def test_mixed_model_agrees_exactly_on_complete_tables():
    fit = Fit(table(), FACTORS, TERMS)
    assert mixed_model_difference(fit) == pytest.approx(0, abs=1e-8)


def test_mixed_model_uses_differences_between_seeds_where_runs_are_missing():
    data = table(missing={(0, 0), (1, 3), (2, 5)}, shared=0.5)
    difference = mixed_model_difference(Fit(data, FACTORS, TERMS))
    assert 0 < difference < 0.5


def test_mixed_model_that_does_not_converge_is_none():
    """Seeds that add nothing have a variance at the boundary."""
    data = table(shared=0.0)
    data["value"] -= data.groupby("seed")["value"].transform("mean")
    assert mixed_model_difference(Fit(data, FACTORS, TERMS)) is None
