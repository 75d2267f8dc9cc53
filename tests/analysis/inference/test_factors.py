"""Effects of factors, against published tables, closed forms and statsmodels' analysis of variance."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patsy import dmatrix
from scipy import stats
from statsmodels.stats.multitest import multipletests

from aimv2.analysis.inference.factors import analyse

FACTORS = {"A": ["a0", "a1", "a2"], "B": ["b0", "b1"]}
MISSING = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=8)

# The data set npk of R (Venables and Ripley 2002, chapter 6): yields of peas, in blocks, with N, P and K or without.
NPK = """
1 011 49.5, 1 110 62.8, 1 000 46.8, 1 101 57.0, 2 100 59.8, 2 111 58.5, 2 001 55.5, 2 010 56.0, 3 010 62.8, 3 111 55.8,
3 100 69.5, 3 001 55.0, 4 100 62.0, 4 111 48.8, 4 001 45.5, 4 010 44.2, 5 110 52.0, 5 000 51.5, 5 101 49.8, 5 011 48.8,
6 101 57.2, 6 110 59.0, 6 011 53.2, 6 000 56.0"""


def npk():
    rows = [row.split() for row in NPK.split(",")]
    return pd.DataFrame(
        [(int(block), float(value), *(factor * int(level) for factor, level in zip("NPK", levels, strict=True)))
         for block, levels, value in rows],
        columns=["seed", "value", *"NPK"],
    ).replace("", "none")  # fmt: skip


def table(rng=0, seeds=5, missing=(), effect=0.0):
    """Every combination with every seed, but for missing ones; ``effect`` is that of A's second level."""
    rng, rows = np.random.default_rng(rng), []
    shared = rng.normal(0, 3, seeds)
    for seed in range(seeds):
        for number, (a, b) in enumerate(itertools.product(*FACTORS.values())):
            value = shared[seed] + rng.normal() + effect * (a == "a1")
            if (seed, number) not in missing:
                rows.append((seed, a, b, value))
    return pd.DataFrame(rows, columns=["seed", "A", "B", "value"])


def test_peas_have_the_published_analysis_of_variance():
    found = analyse(npk(), {factor: ["none", factor] for factor in "NPK"})
    shown = {one.term: (round(one.statistic, 3), round(one.p, 5)) for one in found.tests}
    assert shown == {
        "N": (12.259, 0.00437),
        "P": (0.544, 0.47490),
        "K": (6.166, 0.02880),
        "N × P": (1.378, 0.26317),
        "N × K": (2.146, 0.16865),
        "P × K": (0.031, 0.86275),
    }
    assert {one.error_df for one in found.tests} == {12}
    assert found.sd**2 == pytest.approx(15.44, abs=0.005)
    effects = {one.name: round(one.estimate.mean, 3) for one in found.effects[:3]}
    assert effects == {"N − none": 5.617, "P − none": -1.183, "K − none": -3.983}
    assert "Interactions of 3 factors are not identified" in found.notes[0], "they are confounded with the blocks"


def test_balanced_table_has_the_sums_of_squares_of_the_textbook():
    data = table()
    found = analyse(data, FACTORS)
    wide = data.pivot(index="seed", columns=["A", "B"], values="value")
    grand, cells, num_seeds = wide.to_numpy().mean(), wide.mean(), len(wide)
    of_a, of_b = cells.groupby("A").mean() - grand, cells.groupby("B").mean() - grand
    both = sum((cells[a, b] - grand - of_a[a] - of_b[b]) ** 2 for a, b in cells.index)
    squares = {"A": 2 * num_seeds * (of_a**2).sum(), "B": 3 * num_seeds * (of_b**2).sum(), "A × B": num_seeds * both}
    rest = wide.to_numpy() - cells.to_numpy() - wide.mean(axis=1).to_numpy()[:, None] + grand
    error = (rest**2).sum() / (5 * (num_seeds - 1))
    for one in found.tests:
        assert one.statistic == pytest.approx(squares[one.term] / one.df / error)
    estimate = found.effects[0].estimate
    assert estimate.mean == pytest.approx(of_a["a1"] - of_a["a0"])
    assert estimate.half_width == pytest.approx(stats.t.ppf(0.975, 20) * math.sqrt(error * 2 / 10))
    corner = found.effects[-1]
    assert corner.name == "(a2 − a0) × (b1 − b0)"
    expected = cells["a2", "b1"] - cells["a2", "b0"] - cells["a0", "b1"] + cells["a0", "b0"]
    assert corner.estimate.mean == pytest.approx(expected)
    assert corner.estimate.error == pytest.approx(math.sqrt(error * 4 / num_seeds))
    assert found.notes == ()


@given(missing=MISSING, rng=st.integers(0, 5))
@settings(max_examples=10)
def test_tests_of_an_unbalanced_table_compare_the_model_with_that_without_the_term(missing, rng):
    """Type III: both models have sum-to-zero codes, and the smaller one has all other terms."""
    data = table(rng, missing=missing)
    analysis = analyse(data, FACTORS)
    if len(analysis.tests) < 3:
        return  # a combination is absent
    design = dmatrix("C(seed, Sum) + C(A, Sum) * C(B, Sum)", data)

    def squares(columns):
        return np.linalg.lstsq(columns, data["value"], rcond=None)[1][0]

    whole, df = squares(np.asarray(design)), len(data) - design.shape[1]
    for test, term in zip(analysis.tests, ("C(A, Sum)", "C(B, Sum)", "C(A, Sum):C(B, Sum)"), strict=True):
        if not test.has_test:
            continue  # one seed ran a combination
        removed = design.design_info.term_name_slices[term]
        smaller = squares(np.delete(np.asarray(design), removed, axis=1))
        assert (test.df, test.error_df) == (removed.stop - removed.start, df)
        assert test.statistic == pytest.approx((smaller - whole) / test.df / (whole / df))
        assert test.p == pytest.approx(stats.f.sf(test.statistic, test.df, df))


def test_factor_of_two_levels_is_the_paired_t_test():
    data = table()[lambda rows: (rows["B"] == "b0") & (rows["A"] != "a2")]
    found = analyse(data, {"A": ["a0", "a1"]})
    wide = data.pivot(index="seed", columns="A", values="value")
    oracle = stats.ttest_rel(wide["a1"], wide["a0"])
    assert found.tests[0].p == pytest.approx(oracle.pvalue)
    interval = found.effects[0].estimate
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle.confidence_interval()))


def test_p_values_are_corrected_by_holm_and_sizes_have_their_intervals():
    found = analyse(table(effect=1.0), FACTORS)
    expected = multipletests([one.p for one in found.tests], method="holm")[1]
    assert [one.adjusted_p for one in found.tests] == pytest.approx(expected)
    effect = found.effects[0]
    scale = effect.estimate.error / found.sd
    assert effect.size == pytest.approx(effect.estimate.mean / found.sd)
    for end, probability in ((effect.size_low, 0.975), (effect.size_high, 0.025)):
        assert stats.nct.cdf(effect.size / scale, 20, end / scale) == pytest.approx(probability, abs=1e-5)


def test_one_seed_gives_estimates_without_intervals_and_tests():
    found = analyse(table(seeds=1), FACTORS)
    assert not any(one.has_test for one in found.tests)
    assert not any(one.estimate.has_interval for one in found.effects)
    assert all(math.isnan(one.size) for one in found.effects)
    assert len(found.effects) == 5
    assert "One seed only" in found.notes[0]


def test_combination_with_one_seed_has_no_interval_but_the_others_do():
    data = table(missing={(seed, 5) for seed in range(1, 5)})
    found = analyse(data, FACTORS)
    assert {one.name for one in found.effects if not one.estimate.has_interval} == {"(a2 − a0) × (b1 − b0)"}
    assert [one.term for one in found.tests if one.has_test] == ["A", "B"]
    assert "a2, b1" in found.notes[0]
    assert "Seeds: a0, b0: 5;" in found.notes[1]


def test_absent_combination_leaves_out_interactions_and_is_named():
    found = analyse(table(missing={(seed, 5) for seed in range(5)}), FACTORS)
    assert [one.term for one in found.tests] == ["A", "B"]
    assert found.notes[0].startswith("Interactions are not identified (no run of a2, b1)")


def test_half_fraction_identifies_main_effects_only():
    """Two of four interactions could be fitted, but which of two aliased ones is there is unknown."""
    cells = [levels for levels in itertools.product("01", repeat=4) if sum(map(int, levels)) % 2 == 0]
    rows = [(seed, *levels, 1.0 * seed) for seed in range(3) for levels in cells]
    found = analyse(pd.DataFrame(rows, columns=["seed", *"ABCD", "value"]), {name: ["0", "1"] for name in "ABCD"})
    assert [test.term for test in found.tests] == list("ABCD")
    assert found.notes[0].startswith("Interactions are not identified (no run of 0, 0, 0, 1; ")


def test_seeds_that_share_no_level_identify_nothing():
    data = table()[lambda rows: (rows["A"] == "a0") == (rows["seed"] < 2)]
    found = analyse(data, FACTORS)
    assert (found.tests, found.effects) == ((), ())
    assert found.notes == ("No effect is identified: too few combinations of levels share seeds.",)


def test_no_runs_and_factors_of_one_level_have_no_effects():
    empty = analyse(table()[:0], FACTORS)
    assert len(empty.notes) == 2
    assert not empty.tests
    one = analyse(table()[lambda rows: rows["B"] == "b0"], FACTORS)
    assert [test.term for test in one.tests] == ["A"]
    assert one.notes == ("Only one level of B has results, so it has no effect to estimate.",)


def test_values_without_spread_have_no_test():
    found = analyse(table().assign(value=lambda rows: (rows["A"] == "a1") * 1.0), FACTORS)
    assert not any(one.has_test for one in found.tests)
    assert found.effects[0].estimate.mean == pytest.approx(1)
    assert "no spread between seeds" in found.notes[0]


def test_combination_that_spreads_more_is_named():
    data = table(seeds=8)
    wild = (data["A"] == "a1") & (data["B"] == "b1")
    data.loc[wild, "value"] += np.where(data.loc[wild, "seed"] % 2, 30, -30)
    assert analyse(data, FACTORS).notes == (
        "All share one error, although the spread of some is clearly larger: a1, b1.",
    )
