import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.intervals import (
    NO_ESTIMATE,
    Estimate,
    Finding,
    detectable_difference,
    difference,
    judge,
    mean_interval,
    samples_to_reach,
    simultaneous_level,
)

numbers = st.floats(-1e3, 1e3)
ABSENT = pd.Series(dtype=float)
NO_FINDING = Finding("unclear", is_not_better=False, is_not_worse=False, is_large=False)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_mean_interval_agrees_with_the_t_test(level):
    values = np.random.default_rng(0).normal(3, 2, 7)
    estimate = mean_interval(values, level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.mean == pytest.approx(values.mean())


def test_paired_difference_agrees_with_the_paired_t_test():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.normal(size=6), "base": rng.normal(size=6)}, index=range(6))
    table.loc[2, "a"] = np.nan  # a seed that only the baseline has
    both = table.dropna()
    expected = stats.ttest_rel(both["a"], both["base"])
    actual = difference(table["a"], table["base"], is_paired=True, level=0.98)
    interval = expected.confidence_interval(0.98)
    assert (actual.low, actual.high) == pytest.approx((interval.low, interval.high))
    assert actual.n == 5
    assert actual.excludes_zero == (expected.pvalue < 0.02)


@pytest.mark.parametrize("spread", [1, 5])
def test_unpaired_difference_agrees_with_welchs_test(spread):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.normal(0, spread, 7), "base": rng.normal(1, 1, 7)})
    table.loc[[0, 4], "a"] = np.nan  # seeds of one arm say nothing of the other's
    expected = stats.ttest_ind(table["a"].dropna(), table["base"], equal_var=False)
    actual = difference(table["a"], table["base"], is_paired=False, level=0.99)
    interval = expected.confidence_interval(0.99)
    assert (actual.low, actual.high) == pytest.approx((interval.low, interval.high))
    assert (actual.n, actual.df) == (5, pytest.approx(expected.df))


def test_unpaired_difference_needs_two_seeds_per_arm():
    table = pd.DataFrame({"a": [1.0, np.nan], "base": [2.0, 3.0], "none": [np.nan, np.nan], "same": [1.0, 1.0]})
    one = difference(table["a"], table["base"], is_paired=False)
    assert (one.mean, one.n, one.has_interval) == (-1.5, 1, False)
    assert difference(table["none"], table["base"], is_paired=False) is NO_ESTIMATE
    assert difference(ABSENT, table["base"], is_paired=False) is NO_ESTIMATE
    assert not difference(table["same"], table["same"], is_paired=False).has_interval, "no spread is no certainty"
    spread_of_baseline = difference(table["same"], table["base"], is_paired=False)
    assert spread_of_baseline.df == pytest.approx(1)


def test_intervals_have_their_nominal_coverage():
    rng = np.random.default_rng(2)
    draws = rng.normal(5, 1, (1500, 4))
    hits = sum(e.low <= 5 <= e.high for e in map(mean_interval, draws))
    assert hits / 1500 == pytest.approx(0.95, abs=0.015)


def test_simultaneous_intervals_have_their_joint_coverage():
    rng = np.random.default_rng(3)
    level = simultaneous_level(4)
    assert level == pytest.approx(0.9875)
    draws = rng.normal(0, 1, (800, 4, 5))
    all_hold = sum(all(e.low <= 0 <= e.high for e in (mean_interval(arm, level) for arm in study)) for study in draws)
    assert all_hold / 800 >= 0.94


def test_one_seed_has_no_interval():
    estimate = mean_interval(np.array([2.0]))
    assert (estimate.mean, estimate.n, estimate.has_interval, estimate.excludes_zero) == (2.0, 1, False, False)


def test_seeds_without_spread_have_no_interval():
    estimate = mean_interval(np.array([0.25, 0.25, 0.25]))
    assert (estimate.mean, estimate.has_interval, estimate.excludes_zero) == (0.25, False, False)


def test_arms_without_a_shared_seed_have_no_difference():
    table = pd.DataFrame({"a": [1.0, np.nan], "base": [np.nan, 2.0]})
    assert difference(table["a"], table["base"], is_paired=True) is NO_ESTIMATE
    assert difference(ABSENT, table["base"], is_paired=True) is NO_ESTIMATE


@given(st.lists(numbers, min_size=2, max_size=8), numbers)
def test_paired_difference_is_invariant_to_a_common_shift(values, shift):
    base = pd.DataFrame({"a": values, "base": [0.0] * len(values)})
    moved = base + shift
    one, other = (difference(table["a"], table["base"], is_paired=True) for table in (base, moved))
    assert one.mean == pytest.approx(other.mean, abs=1e-6)
    if one.has_interval and other.has_interval:  # rounding may leave one of them without any spread
        assert one.low == pytest.approx(other.low, abs=1e-4)


@pytest.mark.parametrize(
    ("mean", "error", "lower_is_better", "word"),
    [
        (-1.5, 0.1, True, "better"),
        (-1.5, 0.1, False, "worse"),
        (1.5, 0.1, True, "worse"),
        (0.0, 0.5, True, "unclear"),
        (1.5, 0.0, True, "unclear"),  # without an interval
    ],
)
def test_direction_is_clear_only_if_the_interval_excludes_zero(mean, error, lower_is_better, word):
    estimate = Estimate(mean, error, 30, 31)
    assert judge(estimate, 0.02, lower_is_better=lower_is_better).direction == word


@given(
    shift=st.floats(-0.1, 0.1),
    spread=st.floats(0.001, 0.1),
    seed=st.integers(0, 99),
    lower_is_better=st.booleans(),
    level=st.sampled_from([0.95, 0.9875]),
)
def test_finding_agrees_with_three_t_tests(shift, spread, seed, lower_is_better, level):
    values = np.random.default_rng(seed).normal(shift, spread, 5)
    alpha, margin = 1 - level, 0.02
    is_different = stats.ttest_1samp(values, 0).pvalue < alpha
    is_below = stats.ttest_1samp(values, margin, alternative="less").pvalue < alpha
    is_above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue < alpha
    found = judge(mean_interval(values, level), margin, lower_is_better=lower_is_better)
    side = "better" if (values.mean() < 0) == lower_is_better else "worse"
    assert found.direction == (side if is_different else "unclear")
    assert (found.is_not_worse if lower_is_better else found.is_not_better) == is_below
    assert (found.is_not_better if lower_is_better else found.is_not_worse) == is_above
    is_beyond = abs(values.mean()) > margin
    edge = math.copysign(margin, values.mean())
    assert found.is_large == (is_beyond and stats.ttest_1samp(values, edge).pvalue < alpha)
    words = {
        (False, False): "inconclusive",
        (False, True): "equivalent",
        (True, False): side,
        (True, True): f"{side}, within the margin",
    }
    assert found.word == words[is_different, is_below and is_above]


def test_equivalence_has_its_nominal_error_rate():
    """With a true difference equal to the margin, in at most 5 % of studies."""
    draws = np.random.default_rng(5).normal(0.02, 0.01, (4000, 6))
    shown = [judge(mean_interval(draw), 0.02, lower_is_better=True).is_small for draw in draws]
    assert np.mean(shown) == pytest.approx(0.05, abs=0.01)


def test_no_interval_and_no_margin_show_nothing():
    assert judge(NO_ESTIMATE, 0.02, lower_is_better=True) == NO_FINDING
    assert judge(mean_interval(np.array([1.0])), 2, lower_is_better=True) == NO_FINDING
    assert judge(Estimate(0.0, 1e-9, 3, 4), 0, lower_is_better=True).word == "inconclusive"


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.8, 15), (0.5, 34), (0.2, 199)])
def test_detectable_difference_agrees_with_power_tables(effect, num_seeds):
    """Pairs that a two-sided t test at 5 % needs for 80 % power, as G*Power has them (Faul et al. 2007)."""
    enough, too_few = (Estimate(0, 1 / math.sqrt(n), n - 1, n) for n in (num_seeds, num_seeds - 1))
    assert detectable_difference(enough) <= effect < detectable_difference(too_few)


@pytest.mark.parametrize(("df", "level"), [(1, 0.95), (3, 0.9875), (5.4, 0.99)])
def test_detectable_difference_is_detected_with_80_percent_power(df, level):
    rng = np.random.default_rng(6)
    true = detectable_difference(Estimate(0, 1, df, 4, level))
    t = (true + rng.normal(size=100_000)) / np.sqrt(rng.chisquare(df, 100_000) / df)
    assert np.mean(t > stats.t.ppf((1 + level) / 2, df)) == pytest.approx(0.8, abs=0.01)


def test_detectable_difference_of_many_seeds_is_normal():
    assert detectable_difference(Estimate(0, 0.5, 1e6, 10**6)) == pytest.approx(0.5 * (1.95996 + 0.84162), abs=1e-4)
    assert math.isnan(detectable_difference(Estimate(0, 0, 0, 1)))


def curve(losses, step=100):
    return pd.Series(losses, index=[i * step for i in range(len(losses))])


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [([4, 2, 1], 3, 50), ([4, 2, 1], 2, 100), ([4, 2, 1], 4, 0), ([4, 2, 3, 1], 2.5, 75), ([4, 3], 1, math.nan)],
)
def test_samples_to_reach_interpolates_between_points(losses, target, expected):
    assert samples_to_reach(curve(losses), target) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=10), st.floats(0.1, 10))
def test_loss_at_the_samples_to_reach_is_the_target(losses, target):
    samples = samples_to_reach(curve(losses), target)
    if math.isnan(samples):
        assert min(losses) > target
    elif samples > 0:
        assert np.interp(samples, np.arange(len(losses)) * 100, losses) == pytest.approx(target, abs=1e-6)
