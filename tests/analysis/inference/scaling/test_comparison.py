import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from aimv2.analysis.inference.scaling.comparison import (
    compare,
    hold_out_largest,
    jackknife,
    lack_of_fit,
    seed_effects,
    why_no_blocks,
)
from aimv2.analysis.inference.scaling.power_law import FORMS, fit
from tests.helpers.scaling import HOFFMANN, ladder_runs


def test_the_largest_level_of_each_variable_is_held_out():
    runs = ladder_runs(HOFFMANN)
    split = hold_out_largest(runs, ["n", "d"])
    expected = [n == runs["n"].max() or d == runs["d"].max() for n, d in zip(runs["n"], runs["d"], strict=True)]
    assert split.held_out.index.tolist() == [row for row, is_held in enumerate(expected) if is_held]
    assert len(split.fitted) + len(split.held_out) == len(runs)
    assert split.text == "n = 1.6e+10 or d = 5e+11"


def test_a_variable_keeps_three_levels():
    split = hold_out_largest(ladder_runs(HOFFMANN, sizes=3), ["n", "d"])
    assert split.text == "d = 5e+11"
    assert split.fitted["n"].nunique() == 3
    assert not len(hold_out_largest(ladder_runs(HOFFMANN, sizes=3, samples=3), ["n", "d"]).held_out)


def test_of_many_levels_the_last_tenth_of_the_runs_is_held_out():
    runs = pd.DataFrame({"n": np.arange(1.0, 101.0), "loss": 1.0})
    split = hold_out_largest(runs, ["n"])
    assert split.held_out["n"].min() == 90
    assert split.text == "n >= 90"


@pytest.mark.exhaustive
def test_the_form_that_made_the_data_predicts_best():
    _, trials = compare(ladder_runs(HOFFMANN, noise=0.004, seed_noise=0.002), ["n", "d"])
    assert min(trials, key=lambda trial: trial.error.mean).form.name == "additive"
    by_name = {trial.form.name: trial for trial in trials}
    worse = by_name["n"].minus(by_name["additive"])
    assert worse.low > 0
    assert worse.n == 3


@pytest.mark.exhaustive
def test_the_error_is_that_of_a_fit_that_has_not_seen_the_runs():
    runs = ladder_runs(HOFFMANN, noise=0.01)
    split, trials = compare(runs, ["n", "d"])
    seen = fit(FORMS["d"], split.fitted)
    residuals = [math.log(row.loss / (seen.parameters["E"] + seen.parameters["B"] * row.d ** -seen.parameters["b"]))
                 for row in split.held_out.itertuples()]  # fmt: skip
    expected = math.sqrt(sum(value**2 for value in residuals) / len(residuals))
    assert next(trial for trial in trials if trial.form.name == "d").error.mean == pytest.approx(expected, rel=1e-6)


def test_forms_that_cannot_be_fitted_say_why():
    runs = ladder_runs(HOFFMANN, sizes=2, samples=3, noise=0.01)
    split, trials = compare(runs, ["n", "d"])
    assert not len(split.held_out)
    reasons = {trial.form.name: trial.reason for trial in trials}
    assert reasons["additive"] == "E + A n^-a + B d^-b needs 3 values of n and the runs have 2; run others"
    assert reasons["n_no_offset"] == "nothing is held out"


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.array([1.0, 2.0, 4.0, 4.5])
    without = np.array([np.delete(values, i).mean() for i in range(4)])
    found = jackknife(values.mean(), without)
    assert found.error == pytest.approx(stats.sem(values))
    assert found.df == 3
    assert not jackknife(1.0, np.array([])).has_interval


def test_lack_of_fit_is_the_f_test_of_means_of_settings():
    """Of a constant on unshared seeds this is the one-way analysis of variance."""
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"n": np.repeat([1.0, 2.0, 3.0], 4), "loss": np.exp(rng.normal(0, 0.02, 12))})
    law = fit(FORMS["constant"], runs, huber=1e3)
    groups = [np.log(part["loss"]) for _, part in runs.groupby("n")]
    assert lack_of_fit(law, runs).p == pytest.approx(stats.f_oneway(*groups).pvalue)


def test_lack_of_fit_with_missing_runs_is_the_comparison_of_linear_models():
    """Of a constant, by statsmodels; the missing runs are those of one seed in the largest settings."""
    runs = ladder_runs(HOFFMANN, noise=0.05, seed_noise=0.1, rng=4, num_seeds=4)
    runs = runs[(runs["seed"] != 2) | (runs["n"] < 1e9)].reset_index(drop=True)
    table = runs.assign(y=np.log(runs["loss"]), setting=runs.groupby(["n", "d"]).ngroup())
    nested = anova_lm(*(smf.ols(f"y ~ {terms}", table).fit() for terms in ("C(seed)", "C(seed) + C(setting)")))
    found = lack_of_fit(fit(FORMS["constant"], runs), runs)
    assert found.p == pytest.approx(nested["Pr(>F)"].iloc[1], rel=1e-6)
    assert found.noise_sd == pytest.approx(math.sqrt(nested["ssr"].iloc[1] / nested["df_resid"].iloc[1]))


def test_lack_of_fit_is_that_of_least_squares_whatever_the_fit():
    runs = ladder_runs(HOFFMANN, noise=0.02, rng=6)
    runs.loc[[5, 20], "loss"] *= 1.2
    robust, squares = (fit(FORMS["additive"], runs, huber=huber) for huber in (1e-3, 1e3))
    assert lack_of_fit(robust, runs) == lack_of_fit(squares, runs)


@pytest.mark.exhaustive
def test_lack_of_fit_is_shown_as_often_as_its_level_says():
    """Of the right form, with missing runs: the share of p below 10 % in 100 ladders, within four standard errors."""
    values = []
    for number in range(100):
        runs = ladder_runs(HOFFMANN, noise=0.01, seed_noise=0.01, rng=number)
        runs = runs.drop(index=[0, 17, 41]).reset_index(drop=True)
        values.append(lack_of_fit(fit(FORMS["additive"], runs), runs).p)
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 100))


def test_lack_of_fit_needs_replicates_that_differ():
    runs = ladder_runs(HOFFMANN, noise=0.01, num_seeds=1)
    assert math.isnan(lack_of_fit(fit(FORMS["additive"], runs), runs).p)
    twice = pd.concat([runs, runs.iloc[:3]], ignore_index=True).drop(columns="seed")  # rows that occur twice
    assert math.isnan(lack_of_fit(fit(FORMS["additive"], twice), twice).p)


def test_why_seeds_are_no_blocks():
    runs = ladder_runs(HOFFMANN)
    assert why_no_blocks(runs) == ""
    assert why_no_blocks(runs.drop(columns="seed")) == "the seeds of the runs are not known"
    assert why_no_blocks(runs.assign(seed=0)) == "all runs have the same seed"
    assert why_no_blocks(runs.drop(columns="n")) == "a setting has several runs of one seed"
    assert why_no_blocks(runs.assign(seed=range(len(runs)))) == "a seed is in fewer than half of the settings"


def test_effects_of_seeds_do_not_change_with_missing_runs():
    """Settings deviate from the law, so plain means of a seed would take their deviation for its own."""
    runs = ladder_runs(HOFFMANN)
    residual = np.array([0.1, -0.1, 0.3])[runs["seed"]] + np.where(runs["n"] > 1e9, 0.5, 0)
    there = (runs["seed"] != 2) | (runs["n"] < 1e9)
    found = seed_effects(residual[there], runs[there])
    first = [found[(runs["seed"] == seed)[there]][0] for seed in range(3)]
    assert np.diff(first) == pytest.approx([-0.2, 0.4])
