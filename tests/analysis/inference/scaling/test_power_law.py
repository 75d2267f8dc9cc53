"""Fits against the laws that made the data, closed forms, and another optimizer."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from aimv2.analysis.inference.scaling.power_law import FORMS, fit, forms_of
from tests.helpers.scaling import BESIROGLU, HOFFMANN, ladder_runs


@pytest.mark.parametrize("published", [HOFFMANN, BESIROGLU])
def test_a_law_without_noise_is_recovered(published):
    law = fit(FORMS["additive"], ladder_runs(published, num_seeds=1))
    assert law.parameters == pytest.approx(published, rel=1e-4)
    assert np.abs(law.residual_R).max() < 1e-6


@pytest.mark.parametrize(("name", "variable"), [("n", "n"), ("d", "d"), ("n_no_offset", "n"), ("d_no_offset", "d")])
def test_a_law_in_one_variable_is_recovered(name, variable):
    x, form = np.geomspace(1e6, 1e9, 6), FORMS[name]
    true = dict(zip(form.parameters, ([0.7] if form.has_offset else []) + [300.0, 0.45], strict=True))
    runs = pd.DataFrame({variable: x, "loss": true.get("E", 0) + 300 * x**-0.45})
    assert fit(form, runs).parameters == pytest.approx(true, rel=1e-5)


def test_three_settings_give_the_closed_form():
    """With n, 2n and 4n, the ratio of the two drops of the loss is 2^a."""
    n = np.array([1e6, 2e6, 4e6])
    loss = np.array([3.0, 2.0, 1.4])
    a = np.log2((3.0 - 2.0) / (2.0 - 1.4))
    coefficient = (3.0 - 2.0) / (n[0] ** -a - n[1] ** -a)
    law = fit(FORMS["n"], pd.DataFrame({"n": n, "loss": loss}))
    expected = {"E": 3.0 - coefficient * n[0] ** -a, "A": coefficient, "a": a}
    assert law.parameters == pytest.approx(expected, rel=1e-5)


def test_a_power_law_without_offset_is_a_line_in_logarithms():
    rng, n = np.random.default_rng(0), np.geomspace(1e6, 1e9, 12)
    loss = 80 * n**-0.2 * np.exp(rng.normal(0, 0.01, 12))
    slope, intercept = np.polyfit(np.log(n), np.log(loss), 1)
    law = fit(FORMS["n_no_offset"], pd.DataFrame({"n": n, "loss": loss}), huber=1e3)  # then Huber's loss is the square
    assert law.parameters == pytest.approx({"A": np.exp(intercept), "a": -slope}, rel=1e-5)


def test_the_multiplicative_form_is_recovered():
    runs = ladder_runs(HOFFMANN, num_seeds=1)
    runs["loss"] = 1.2 + 5e3 * runs["n"] ** -0.2 * runs["d"] ** -0.15
    law = fit(FORMS["multiplicative"], runs)
    assert law.parameters == pytest.approx({"E": 1.2, "A": 5e3, "a": 0.2, "b": 0.15}, rel=1e-4)


@pytest.mark.exhaustive
def test_another_optimizer_with_the_published_parametrisation_finds_no_lower_huber_loss():
    """Hoffmann et al. minimise with L-BFGS over log E, log A, log B, a and b; here from the law that made the data."""
    runs = ladder_runs(BESIROGLU, noise=0.02, rng=3)
    law = fit(FORMS["additive"], runs, huber=1e-3)

    def huber_loss(theta):
        logs = np.stack(
            [
                np.full(len(runs), theta[0]),
                theta[1] - theta[3] * np.log(runs["n"]),
                theta[2] - theta[4] * np.log(runs["d"]),
            ]
        )
        return 1e3 * special.huber(1e-3, np.log(runs["loss"]) - special.logsumexp(logs, axis=0)).sum()

    start = [*np.log([BESIROGLU[name] for name in "EAB"]), BESIROGLU["a"], BESIROGLU["b"]]
    other = optimize.minimize(huber_loss, start, method="L-BFGS-B", options={"ftol": 1e-14, "maxiter": 5000})
    ours = [*np.log([law.parameters[name] for name in "EAB"]), law.parameters["a"], law.parameters["b"]]
    assert huber_loss(ours) <= other.fun * (1 + 1e-4)
    assert 1e3 * law.cost == pytest.approx(huber_loss(ours), rel=1e-6)


def test_outliers_hardly_move_the_fit():
    runs = ladder_runs(HOFFMANN, noise=0.003, rng=1)
    clean = fit(FORMS["additive"], runs)
    runs.loc[[5, 20], "loss"] *= 1.5
    robust, squares = fit(FORMS["additive"], runs), fit(FORMS["additive"], runs, huber=1e3)
    moved = abs(robust.predict(runs) / clean.predict(runs) - 1).max()
    assert moved < 0.01
    assert abs(squares.predict(runs) / clean.predict(runs) - 1).max() > 5 * moved


@given(n_unit=st.floats(1e-6, 1e6), d_unit=st.floats(1e-6, 1e6), loss_unit=st.floats(0.01, 100))
@settings(max_examples=15)
def test_other_units_change_coefficients_alone(n_unit, d_unit, loss_unit):
    runs = ladder_runs(BESIROGLU, noise=0.005, rng=2)
    law = fit(FORMS["additive"], runs)
    units = {"n": runs["n"] * n_unit, "d": runs["d"] * d_unit, "loss": runs["loss"] * loss_unit}
    other = fit(FORMS["additive"], runs.assign(**units))
    p = law.parameters
    expected = {
        "E": p["E"] * loss_unit,
        "A": p["A"] * loss_unit * n_unit ** p["a"],
        "B": p["B"] * loss_unit * d_unit ** p["b"],
        "a": p["a"],
        "b": p["b"],
    }
    assert other.parameters == pytest.approx(expected, rel=1e-3)


def test_fewer_settings_than_parameters_are_refused():
    runs = ladder_runs(HOFFMANN, sizes=2, samples=2)
    with pytest.raises(ValueError, match="needs at least 5 settings; the runs have 4"):
        fit(FORMS["additive"], runs)


def test_forms_of_one_variable_need_no_other():
    assert [form.name for form in forms_of(["d"])] == ["constant", "d_no_offset", "d"]
    assert [form.name for form in forms_of(["n", "d"])] == list(FORMS)
    assert FORMS["additive"].text == "E + A n^-a + B d^-b"
    assert FORMS["multiplicative"].parameters == ("E", "A", "a", "b")
