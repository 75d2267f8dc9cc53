"""Fits against the laws that made the data, closed forms, and another optimizer; designs that are refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from aimv2.analysis.inference.scaling_law import MAX_CORRELATION, FitError, check_design, fit
from tests.helpers.scaling import BESIROGLU, HOFFMANN, ladder_runs, loss_of

BOTH = ("n", "d")


@pytest.mark.parametrize("published", [HOFFMANN, BESIROGLU])
def test_a_law_without_noise_is_recovered(published):
    law = fit(ladder_runs(published, num_seeds=1), BOTH)
    assert law.parameters == pytest.approx(published, rel=1e-4)
    assert np.abs(law.residual_R).max() < 1e-6
    assert law.text == "E + A n^-a + B d^-b"


@pytest.mark.parametrize(("variable", "names"), [("n", "EAa"), ("d", "EBb")])
def test_a_law_in_one_variable_is_recovered(variable, names):
    x = np.geomspace(1e6, 1e9, 6)
    runs = pd.DataFrame({variable: x, "loss": 0.7 + 300 * x**-0.45})
    assert fit(runs, [variable]).parameters == pytest.approx(dict(zip(names, (0.7, 300, 0.45), strict=True)), rel=1e-5)


def test_three_settings_give_the_closed_form():
    """With n, 2n and 4n, the ratio of the two drops of the loss is 2^a."""
    n = np.array([1e6, 2e6, 4e6])
    a = np.log2((3.0 - 2.0) / (2.0 - 1.4))
    coefficient = (3.0 - 2.0) / (n[0] ** -a - n[1] ** -a)
    law = fit(pd.DataFrame({"n": n, "loss": [3.0, 2.0, 1.4]}), ["n"])
    expected = {"E": 3.0 - coefficient * n[0] ** -a, "A": coefficient, "a": a}
    assert law.parameters == pytest.approx(expected, rel=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rng", range(5))
def test_another_optimizer_with_the_published_parametrisation_finds_no_lower_huber_loss(rng):
    """Hoffmann et al. minimise with L-BFGS over log E, log A, log B, a and b; here from the law that made the data."""
    runs = ladder_runs(BESIROGLU, noise=0.02, rng=rng)
    law = fit(runs, BOTH, huber=1e-3)

    def huber_loss(theta):
        terms = [theta[1] - theta[3] * np.log(runs["n"]), theta[2] - theta[4] * np.log(runs["d"])]
        logs = np.stack([np.full(len(runs), theta[0]), *terms])
        return 1e3 * special.huber(1e-3, np.log(runs["loss"]) - special.logsumexp(logs, axis=0)).sum()

    start = [*np.log([BESIROGLU[name] for name in "EAB"]), BESIROGLU["a"], BESIROGLU["b"]]
    other = optimize.minimize(huber_loss, start, method="L-BFGS-B", options={"ftol": 1e-14, "maxiter": 5000})
    ours = [*np.log([law.parameters[name] for name in "EAB"]), law.parameters["a"], law.parameters["b"]]
    assert huber_loss(ours) <= other.fun * (1 + 1e-4)


def test_outliers_hardly_move_the_fit():
    runs = ladder_runs(HOFFMANN, noise=0.003, rng=1)
    clean = fit(runs, BOTH)
    runs.loc[[5, 20], "loss"] *= 1.5
    robust, squares = fit(runs, BOTH), fit(runs, BOTH, huber=1e3)
    moved = abs(robust.predict(runs) / clean.predict(runs) - 1).max()
    assert moved < 0.01
    assert abs(squares.predict(runs) / clean.predict(runs) - 1).max() > 5 * moved


@given(n_unit=st.floats(1e-6, 1e6), d_unit=st.floats(1e-6, 1e6), loss_unit=st.floats(0.01, 100))
@settings(max_examples=15)
def test_other_units_change_coefficients_alone(n_unit, d_unit, loss_unit):
    runs = ladder_runs(BESIROGLU, noise=0.005, rng=2)
    p = fit(runs, BOTH).parameters
    units = {"n": runs["n"] * n_unit, "d": runs["d"] * d_unit, "loss": runs["loss"] * loss_unit}
    expected = {
        "E": p["E"] * loss_unit,
        "A": p["A"] * loss_unit * n_unit ** p["a"],
        "B": p["B"] * loss_unit * d_unit ** p["b"],
        "a": p["a"],
        "b": p["b"],
    }
    assert fit(runs.assign(**units), BOTH).parameters == pytest.approx(expected, rel=1e-3)


def test_leverage_is_that_of_the_linear_model_around_the_fit():
    """Of least squares; the derivatives are finite differences of predictions."""
    runs = ladder_runs(HOFFMANN, noise=0.01)
    law = fit(runs, ["n"], huber=1e3)
    columns = []
    for name, value in law.parameters.items():
        ends = [dict(law.parameters) | {name: value * factor} for factor in (1 - 1e-6, 1 + 1e-6)]
        low, high = (np.log(p["E"] + p["A"] * runs["n"] ** -p["a"]) for p in ends)
        columns.append(high - low)
    design = np.stack(columns, axis=1)
    expected = np.diag(design @ np.linalg.pinv(design))
    np.testing.assert_allclose(law.leverage_R, expected, rtol=1e-4)


def reason(runs, variables=BOTH):
    """Return why runs are refused; empty if they are not."""
    try:
        check_design(runs, variables)
    except FitError as error:
        return str(error)
    return ""


def runs_at(n, d):
    return pd.DataFrame({"n": n, "d": d, "loss": loss_of(BESIROGLU, np.asarray(n), np.asarray(d))})


@given(sizes=st.integers(3, 6), samples=st.integers(3, 6), num_seeds=st.integers(1, 3))
def test_ladders_of_a_falling_loss_pass(sizes, samples, num_seeds):
    assert reason(ladder_runs(BESIROGLU, noise=0.005, sizes=sizes, samples=samples, num_seeds=num_seeds)) == ""


@pytest.mark.parametrize(("variables", "needed"), [(["n"], 7), (["d"], 7), (BOTH, 9)])
def test_settings_are_counted_and_seeds_are_not(variables, needed):
    rng = np.random.default_rng(0)
    enough = runs_at(np.geomspace(1e7, 1e9, needed), rng.permutation(np.geomspace(1e9, 1e11, needed)))
    enough["loss"] = 1 + 1e3 * enough[variables[0]] ** -0.4
    assert reason(enough, variables) == ""
    few = pd.concat([enough.iloc[:-1]] * 5)
    assert f"needs at least {needed} settings, and the runs have {needed - 1}; run 1 more" in reason(few, variables)


@pytest.mark.parametrize(("sizes", "samples", "variable", "count"), [(1, 9, "n", 1), (2, 6, "n", 2), (6, 2, "d", 2)])
def test_a_variable_needs_three_values(sizes, samples, variable, count):
    runs = ladder_runs(BESIROGLU, sizes=sizes, samples=samples)
    assert f"needs 3 values of {variable} and the runs have {count}; run others" in reason(runs)


def test_samples_that_follow_the_size_are_refused():
    rng, n = np.random.default_rng(0), np.geomspace(5e7, 1.6e10, 20)
    assert "n and d vary together (the correlation of their logarithms is 1.000)" in reason(runs_at(n, 20 * n))
    for spread in np.linspace(0.05, 0.6, 12):
        d = 20 * n * np.exp(rng.normal(0, spread, 20))
        is_refused = np.corrcoef(np.log(n), np.log(d))[0, 1] > MAX_CORRELATION
        assert ("vary together" in reason(runs_at(n, d))) == is_refused


@pytest.mark.parametrize("variable", BOTH)
def test_a_loss_that_rises_is_refused_and_one_that_stays_is_not(variable):
    runs = ladder_runs(BESIROGLU, noise=0.005)
    risen = runs.assign(loss=2.5 * (runs[variable] / runs[variable].min()) ** 0.05)
    assert reason(risen).startswith(f"the loss rises with {variable}, by 3.5 % per doubling")  # 2^0.05 = 1.035
    assert reason(runs.assign(loss=1.0)) == ""


@pytest.mark.exhaustive
def test_a_variable_without_effect_seldom_counts_as_rising():
    """In at most 1 % of ladders; of 200, four standard errors more are 8."""
    law = BESIROGLU | {"A": 0.0}
    refused = [bool(reason(ladder_runs(law, noise=0.01, num_seeds=1, rng=number))) for number in range(200)]
    assert sum(refused) <= 8


def test_losses_that_allow_no_fit_are_refused():
    runs = ladder_runs(HOFFMANN, sizes=2, samples=2)
    with pytest.raises(FitError, match="needs at least 5 settings; the runs have 4"):
        fit(runs, BOTH)
    with pytest.raises(FitError, match="a loss is not a positive number"):
        fit(ladder_runs(HOFFMANN).assign(loss=0.0), BOTH)
