"""Designs that cannot determine a law are refused in words; others pass."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.inference.scaling.design import MAX_CORRELATION, MIN_FREEDOM, check_design
from aimv2.analysis.inference.scaling.power_law import FORMS, FitError
from tests.helpers.scaling import BESIROGLU, ladder_runs, loss_of


def reason(runs, form="additive"):
    """Return why the form is refused; empty if it is not."""
    try:
        check_design(FORMS[form], runs)
    except FitError as error:
        return str(error)
    return ""


def runs_at(n, d, **law):
    return pd.DataFrame({"n": n, "d": d, "loss": loss_of(BESIROGLU | law, np.asarray(n), np.asarray(d))})


@given(sizes=st.integers(3, 6), samples=st.integers(3, 6), num_seeds=st.integers(1, 3))
def test_ladders_of_a_falling_loss_pass(sizes, samples, num_seeds):
    assert reason(ladder_runs(BESIROGLU, noise=0.005, sizes=sizes, samples=samples, num_seeds=num_seeds)) == ""


@pytest.mark.parametrize("form", [form for form in FORMS if form != "constant"])
def test_settings_are_counted_and_seeds_are_not(form):
    needed = len(FORMS[form].parameters) + MIN_FREEDOM
    rng = np.random.default_rng(0)
    n, d = np.geomspace(1e7, 1e9, needed), rng.permutation(np.geomspace(1e9, 1e11, needed))
    enough = runs_at(n, d)
    assert reason(enough, form) == ""
    few = pd.concat([enough.iloc[:-1]] * 5)
    assert f"needs at least {needed} settings, and the runs have {needed - 1}; run 1 more" in reason(few, form)


def test_a_constant_needs_no_design():
    assert reason(pd.DataFrame({"n": [1.0], "loss": [1.0]}), "constant") == ""


@pytest.mark.parametrize(("sizes", "samples", "variable", "found"), [(1, 9, "n", 1), (2, 6, "n", 2), (6, 2, "d", 2)])
def test_a_term_beside_an_offset_needs_three_values(sizes, samples, variable, found):
    runs = ladder_runs(BESIROGLU, sizes=sizes, samples=samples)
    assert f"needs 3 values of {variable} and the runs have {found}; run others" in reason(runs)


@pytest.mark.exhaustive
@given(tokens_per_parameter=st.floats(0.1, 1000), power=st.floats(0.2, 3))
def test_samples_that_follow_the_size_are_refused(tokens_per_parameter, power):
    n = np.geomspace(5e7, 1.6e10, 12)
    runs = runs_at(n, tokens_per_parameter * n**power)
    assert "n and d vary together (the correlation of their logarithms is 1.000)" in reason(runs)
    assert reason(runs, "n") == ""  # a law of one variable claims nothing of the other


def test_the_limit_of_correlation_is_that_of_numpy():
    rng, n = np.random.default_rng(0), np.geomspace(5e7, 1.6e10, 20)
    for spread in np.linspace(0.05, 0.6, 12):
        d = 20 * n * np.exp(rng.normal(0, spread, 20))
        is_refused = np.corrcoef(np.log(n), np.log(d))[0, 1] > MAX_CORRELATION
        assert ("vary together" in reason(runs_at(n, d))) == is_refused


@pytest.mark.parametrize("variable", ["n", "d"])
def test_a_loss_that_rises_is_refused(variable):
    runs = ladder_runs(BESIROGLU, noise=0.005)
    risen = runs.assign(loss=2.5 * (runs[variable] / runs[variable].min()) ** 0.05)
    assert reason(risen).startswith(f"the loss rises with {variable}, by 3.5 % per doubling")  # 2^0.05 = 1.035
    other = "d" if variable == "n" else "n"
    assert reason(runs.assign(loss=runs["loss"] * risen["loss"]), other) == ""


def test_equal_losses_do_not_rise():
    assert reason(ladder_runs(BESIROGLU).assign(loss=1.0)) == ""


@pytest.mark.exhaustive
def test_a_variable_without_effect_seldom_counts_as_rising():
    """In at most 1 % of ladders; of 200, four standard errors more are 8."""
    without = [
        reason(ladder_runs(BESIROGLU | {"A": 0.0}, noise=0.01, num_seeds=1, rng=number)) for number in range(200)
    ]
    assert sum(map(bool, without)) <= 8
