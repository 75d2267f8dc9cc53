"""The frontier against the closed form of Hoffmann et al., and against a search of all sizes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aimv2.analysis.inference.scaling.bootstrap import Bootstrap, resample
from aimv2.analysis.inference.scaling.frontier import SIX_N_D, Cost, fit_cost, frontier
from aimv2.analysis.inference.scaling.power_law import FORMS, fit
from tests.helpers.scaling import BESIROGLU, HOFFMANN, ladder_runs, loss_of

ALL_DRAWS = 0.999  # a level at which the interval is the range of the draws


def exact(published):
    """Return the bootstrap of a law without noise, whose only draw is the law."""
    runs = ladder_runs(published, num_seeds=1)
    law = fit(FORMS["additive"], runs)
    return Bootstrap(law, runs, pd.DataFrame([law.parameters]), 0)


@pytest.mark.parametrize("published", [HOFFMANN, BESIROGLU])
def test_the_frontier_is_the_closed_form(published):
    found = frontier(exact(published), SIX_N_D)
    a, b = published["a"], published["b"]
    g = (a * published["A"] / (b * published["B"])) ** (1 / (a + b))
    flops = found.table["flops"].to_numpy()
    np.testing.assert_allclose(found.table["n"], g * (flops / 6) ** (b / (a + b)), rtol=1e-3)
    np.testing.assert_allclose(found.table["d"], (flops / 6) ** (a / (a + b)) / g, rtol=1e-3)
    np.testing.assert_allclose(found.table["loss"], loss_of(published, found.table["n"], found.table["d"]), rtol=1e-4)
    np.testing.assert_allclose(found.table["n_low"], found.table["n_high"])
    assert found.slope[0] == pytest.approx(b / (a + b), rel=1e-3)


def test_with_a_fixed_cost_no_other_size_has_a_smaller_loss():
    cost = Cost(fixed=2e9, per_size=6.0, text="")
    found = frontier(exact(HOFFMANN), cost).table.iloc[[3, 12, 20]]
    for row in found.itertuples():
        sizes = np.geomspace(row.n / 30, row.n * 30, 20_001)
        losses = loss_of(HOFFMANN, sizes, row.flops / (cost.fixed + cost.per_size * sizes))
        assert row.n == pytest.approx(sizes[losses.argmin()], rel=0.01)
        assert row.loss == pytest.approx(losses.min(), rel=1e-4)
        assert cost.flops(row.n, row.d) == pytest.approx(row.flops)


@pytest.mark.exhaustive
def test_intervals_contain_the_true_optimum_and_grow_beyond_the_runs():
    runs = ladder_runs(BESIROGLU, noise=0.004, rng=21)
    sampled = resample(fit(FORMS["additive"], runs), runs, num_draws=60)
    found = frontier(replace(sampled, level=ALL_DRAWS), SIX_N_D)
    truth = frontier(exact(BESIROGLU), SIX_N_D).table
    table = found.table
    assert (table["n_low"] < truth["n"]).all()
    assert (truth["n"] < table["n_high"]).all()
    assert (table["loss_low"] < table["loss_high"]).all()
    inside = table["n"].between(runs["n"].min(), runs["n"].max()) & table["d"].between(runs["d"].min(), runs["d"].max())
    assert table["is_inside"].tolist() == inside.tolist()
    assert 0 < inside.sum() < len(table)
    assert found.slope[1] < BESIROGLU["b"] / (BESIROGLU["a"] + BESIROGLU["b"]) < found.slope[2]


def test_optima_outside_the_searched_sizes_are_left_out_and_counted():
    """With a tiny A the optimum is below a thousandth of the smallest size, in one of three draws."""
    bootstrap = exact(HOFFMANN)
    draws = [HOFFMANN, HOFFMANN, {**HOFFMANN, "A": 1e-3}]
    found = frontier(replace(bootstrap, draws=pd.DataFrame(draws)[list(bootstrap.law.parameters)]), SIX_N_D)
    assert (found.num_draws, found.num_without, found.num_outside) == (3, 0, 1)
    np.testing.assert_allclose(found.table["n_low"], found.table["n"], rtol=1e-3)
    np.testing.assert_allclose(found.table["n_high"], found.table["n"], rtol=1e-3)
    assert np.isfinite(found.slope).all()


def test_costs_are_fitted_to_the_flops_of_the_runs():
    runs = ladder_runs(HOFFMANN).assign(flops=lambda runs: (3e8 + 7.5 * runs["n"]) * runs["d"])
    cost = fit_cost(runs)
    assert (cost.fixed, cost.per_size) == pytest.approx((3e8, 7.5), rel=1e-6)
    assert cost.text == "FLOPs = (3e+08 + 7.5 n) d, fitted to the FLOPs of the runs within 0.0 %"
    proportional = fit_cost(runs.assign(flops=6 * runs["n"] * runs["d"]))
    assert proportional.per_size == pytest.approx(6)
    assert proportional.fixed == pytest.approx(0, abs=1)


def test_flops_that_are_no_function_of_size_and_samples_are_told():
    runs = ladder_runs(HOFFMANN)
    assert "with care" in fit_cost(runs.assign(flops=runs["n"] * runs["d"] * (1 + runs["seed"]))).text


def test_a_law_without_a_term_has_no_frontier():
    runs = ladder_runs(HOFFMANN, num_seeds=1)
    law = fit(FORMS["additive"], runs)
    without = Bootstrap(law, runs, pd.DataFrame([law.parameters, {**law.parameters, "B": 0.0}]), 0)
    assert frontier(without, SIX_N_D).num_without == 1
    law.parameters["A"] = 0.0
    assert frontier(without, SIX_N_D) is None


def test_only_the_additive_form_has_a_frontier_and_only_if_size_costs():
    runs = ladder_runs(HOFFMANN, num_seeds=1)
    law = fit(FORMS["multiplicative"], runs)
    with pytest.raises(ValueError, match="has no compute-optimal frontier"):
        frontier(Bootstrap(law, runs, pd.DataFrame([law.parameters]), 0), SIX_N_D)
    with pytest.raises(ValueError, match="do not grow with n"):
        frontier(exact(HOFFMANN), Cost(1.0, 0.0, ""))
