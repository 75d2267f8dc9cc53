"""Restricted means and leads, against the survival functions of statsmodels, closed forms and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight

from aimv2.analysis.inference.survival import lead, loss_at, restricted_mean, time_to_reach

LOSSES = st.lists(st.floats(0.1, 10), min_size=2, max_size=10)


def curve(losses, step=100):
    return pd.Series(losses, index=[i * step for i in range(len(losses))], dtype=float)


def test_run_that_does_not_get_there_counts_its_budget():
    found = restricted_mean([200, 250, math.nan, 300], [400, 400, 400, 400])
    assert (found.estimate.mean, found.num_reached, found.estimate.n) == (pytest.approx(1150 / 4), 3, 4)
    low, high = stats.t.interval(0.95, 3, 1150 / 4, stats.sem([200, 250, 400, 300]))
    assert high > 400
    assert (found.estimate.low, found.estimate.high) == (pytest.approx(low), 400)
    assert found.is_lower_bound
    assert not restricted_mean([100, 300], [400, 400]).is_lower_bound


def test_no_run_that_gets_there_and_one_run_have_no_interval():
    none_there = restricted_mean([math.nan, math.nan], [400, 400])
    assert (none_there.estimate.mean, none_there.num_reached, none_there.estimate.has_interval) == (400, 0, False)
    assert not restricted_mean([100], [400]).estimate.has_interval
    assert not restricted_mean([100, 300], [400, 400]).estimate.has_interval, "two runs are too few"
    early, late = (restricted_mean(times, [400] * 3).estimate for times in ([1, 1, 300], [399, 399, 100]))
    assert (early.low, late.high) == (0, 400), "no run arrives before it starts, or counts after the horizon"
    assert restricted_mean([], []).estimate.n == 0


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(50, 100)), min_size=2, max_size=12))
def test_restricted_mean_is_the_area_under_the_curve_of_kaplan_and_meier(runs):
    """The oracle integrates statsmodels' survival function to the smallest budget."""
    times = [time if time <= budget else math.nan for time, budget in runs]
    budgets = [budget for _, budget in runs]
    found = restricted_mean(times, budgets)
    assert found.estimate.limits == (0, min(budgets))
    survival = SurvfuncRight(np.minimum(*zip(*runs, strict=True)), [int(time <= budget) for time, budget in runs])
    ends = np.minimum(np.append(survival.surv_times, min(budgets)), min(budgets))
    area = np.diff(ends, prepend=0) @ np.append(1.0, survival.surv_prob)
    assert found.estimate.mean == pytest.approx(area)


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [([4, 2, 1], 3, 50), ([4, 2, 1], 2, 100), ([4, 2, 1], 4, 0), ([4, 2, 3, 1], 2.5, 75), ([4, 3], 1, math.nan)],
)
def test_time_to_reach_interpolates_between_points(losses, target, expected):
    assert time_to_reach(curve(losses), target) == pytest.approx(expected, nan_ok=True)


@given(LOSSES, st.floats(0.1, 10))
def test_loss_at_the_time_to_reach_is_the_target(losses, target):
    time = time_to_reach(curve(losses), target)
    if math.isnan(time):
        assert min(losses) > target
    elif time > 0:
        assert loss_at(curve(losses), time) == pytest.approx(target, abs=1e-6)


@pytest.mark.parametrize(("delta", "expected"), [(0.5, 12.5), (-0.5, -12.5), (0.0, 0.0), (9.0, 100.0)])
def test_lead_of_a_shifted_line_is_the_shift_over_its_slope(delta, expected):
    """Losses fall by 4 over 100, so a run that is lower by delta is ahead by delta / 4 of that, or by all of it."""
    baseline = pd.Series([5.0, 1.0], index=[0, 100])
    assert lead(baseline - delta, baseline, 100) == pytest.approx(expected)


@given(LOSSES, LOSSES, st.floats(1, 900))
def test_lead_changes_its_sign_with_the_roles_and_stays_within_the_horizon(one, other, horizon):
    ahead = lead(curve(one), curve(other), horizon)
    assert ahead == -lead(curve(other), curve(one), horizon)
    assert abs(ahead) <= horizon
    assert lead(curve(one), curve(one), horizon) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize(("share", "seeds", "most"), [(1, 4, 7), (1, 8, 7), (0.75, 4, 9), (0.75, 8, 8), (0.5, 8, 12)])
def test_interval_of_the_restricted_mean_misses_no_more_than_documented(share, seeds, most):
    """In percent. It is Student's: the normal one misses more."""
    rng = np.random.default_rng(0)
    horizon = math.inf if share == 1 else stats.lognorm.ppf(share, 0.25)
    true = np.minimum(rng.lognormal(0, 0.25, 10**6), horizon).mean()
    misses = {"t": 0, "normal": 0}
    for _ in range(2000):
        times = rng.lognormal(0, 0.25, seeds)
        found = restricted_mean(np.where(times <= horizon, times, np.nan), np.full(seeds, min(horizon, 1e9))).estimate
        if found.has_interval:
            misses["t"] += not found.low <= true <= found.high
            misses["normal"] += abs(found.mean - true) > 1.96 * found.error * math.sqrt(1 - 1 / seeds)
    assert misses["t"] / 20 < most
    assert misses["t"] < misses["normal"]
