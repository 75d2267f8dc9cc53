import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import (
    Estimate,
    direction,
    mean_interval,
    paired_difference,
    samples_to_reach,
    simultaneous_level,
)

numbers = st.floats(-1e3, 1e3)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_the_t_test(level):
    values = np.random.default_rng(0).normal(3, 2, 7)
    estimate = mean_interval(values, level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.mean == pytest.approx(values.mean())


def test_the_paired_difference_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.normal(size=6), "base": rng.normal(size=6)}, index=range(6))
    table.loc[2, "a"] = np.nan  # a seed that only the baseline has
    both = table.dropna()
    expected = stats.ttest_rel(both["a"], both["base"])
    actual = paired_difference(table, "a", "base", 0.98)
    interval = expected.confidence_interval(0.98)
    assert (actual.low, actual.high) == pytest.approx((interval.low, interval.high))
    assert actual.n == 5
    assert actual.excludes_zero == (expected.pvalue < 0.02)


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(2)
    draws = rng.normal(5, 1, (4000, 4))
    hits = sum(e.low <= 5 <= e.high for e in map(mean_interval, draws))
    assert hits / 4000 == pytest.approx(0.95, abs=0.015)


def test_simultaneous_intervals_all_hold_as_often_as_they_say():
    rng = np.random.default_rng(3)
    level = simultaneous_level(4)
    assert level == pytest.approx(0.9875)
    draws = rng.normal(0, 1, (2000, 4, 5))
    all_hold = sum(all(e.low <= 0 <= e.high for e in (mean_interval(arm, level) for arm in study)) for study in draws)
    assert all_hold / 2000 >= 0.94


def test_one_seed_gives_a_mean_and_no_interval():
    estimate = mean_interval(np.array([2.0]))
    assert (estimate.mean, estimate.n, estimate.has_interval, estimate.excludes_zero) == (2.0, 1, False, False)


def test_seeds_without_any_spread_prove_nothing():
    estimate = mean_interval(np.array([0.25, 0.25, 0.25]))
    assert (estimate.mean, estimate.has_interval, estimate.excludes_zero) == (0.25, False, False)


def test_arms_without_a_shared_seed_have_no_difference():
    table = pd.DataFrame({"a": [1.0, np.nan], "base": [np.nan, 2.0]})
    assert paired_difference(table, "a", "base") is None
    assert paired_difference(table, "absent", "base") is None


@given(st.lists(numbers, min_size=2, max_size=8), numbers)
def test_what_all_seeds_have_in_common_cancels(values, shift):
    base = pd.DataFrame({"a": values, "base": [0.0] * len(values)})
    moved = base + shift
    one, other = paired_difference(base, "a", "base"), paired_difference(moved, "a", "base")
    assert one.mean == pytest.approx(other.mean, abs=1e-6)
    if one.has_interval and other.has_interval:  # rounding may leave one of them without any spread
        assert one.low == pytest.approx(other.low, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "word"),
    [
        (-2, -1, True, "better"),
        (-2, -1, False, "worse"),
        (1, 2, True, "worse"),
        (-1, 1, True, "unclear"),
        (math.nan, math.nan, True, "unclear"),
    ],
)
def test_a_direction_is_named_only_when_the_interval_leaves_zero_out(low, high, lower_is_better, word):
    estimate = Estimate((low + high) / 2, low, high, 3)
    assert direction(estimate, lower_is_better=lower_is_better) == word


def curve(losses, step=100):
    rows = [{"samples": i * step, "held_out_caption_loss": loss} for i, loss in enumerate(losses)]
    return pd.DataFrame([*rows, {"samples": 50, "held_out_caption_loss": np.nan}])


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [([4, 2, 1], 3, 50), ([4, 2, 1], 2, 100), ([4, 2, 1], 4, 0), ([4, 2, 3, 1], 2.5, 75), ([4, 3], 1, math.nan)],
)
def test_samples_to_reach_a_loss_are_read_off_the_line(losses, target, expected):
    assert samples_to_reach(curve(losses), target, "held_out_caption_loss") == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=10), st.floats(0.1, 10))
def test_the_loss_there_is_the_loss_asked_for(losses, target):
    samples = samples_to_reach(curve(losses), target, "held_out_caption_loss")
    if math.isnan(samples):
        assert min(losses) > target
    elif samples > 0:
        assert np.interp(samples, np.arange(len(losses)) * 100, losses) == pytest.approx(target, abs=1e-6)
