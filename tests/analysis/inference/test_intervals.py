import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.analysis.evidence.tables import LIMITS
from aimv2.analysis.inference.intervals import (
    NO_ESTIMATE,
    Aim,
    Estimate,
    Noise,
    arm_mean,
    critical_value,
    detectable_difference,
    mean_interval,
    percent,
    seeds_for,
    unpaired_difference,
    with_interval,
)
from aimv2.analysis.inference.items import with_items
from tests.helpers.pages import ROOT

ABSENT = pd.Series(dtype=float)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_mean_interval_agrees_with_the_t_test(level):
    values = np.random.default_rng(0).normal(3, 2, 7)
    estimate = mean_interval(values, level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.mean == pytest.approx(values.mean())


@pytest.mark.parametrize(("form", "text"), [("+.3f", "+0.000 [-0.500, +0.000]"), (".2f", "0.00 [-0.50, 0.00]")])
def test_no_zero_is_negative(form, text):
    assert with_interval(-0.0001, -0.5, -0.0002, form) == text


@pytest.mark.parametrize("spread", [1, 5])
def test_unpaired_difference_agrees_with_welchs_test(spread):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.normal(0, spread, 7), "base": rng.normal(1, 1, 7)})
    table.loc[[0, 4], "a"] = np.nan  # seeds of one arm say nothing of the other's
    expected = stats.ttest_ind(table["a"].dropna(), table["base"], equal_var=False)
    actual = unpaired_difference(table["a"], table["base"], level=0.99)
    interval = expected.confidence_interval(0.99)
    assert (actual.low, actual.high) == pytest.approx((interval.low, interval.high))
    assert (actual.n, actual.df) == (5, pytest.approx(expected.df))


def test_unpaired_difference_needs_two_seeds_per_arm():
    table = pd.DataFrame({"a": [1.0, np.nan], "base": [2.0, 3.0], "none": [np.nan, np.nan], "same": [1.0, 1.0]})
    one = unpaired_difference(table["a"], table["base"])
    assert (one.mean, one.n, one.has_interval) == (-1.5, 1, False)
    assert unpaired_difference(table["none"], table["base"]) is NO_ESTIMATE
    assert unpaired_difference(ABSENT, table["base"]) is NO_ESTIMATE
    assert not unpaired_difference(table["same"], table["same"]).has_interval, "no spread is no certainty"
    spread_of_baseline = unpaired_difference(table["same"], table["base"])
    assert spread_of_baseline.df == pytest.approx(1)


def test_the_interval_of_an_arms_mean_has_only_possible_values():
    low, high = arm_mean(np.array([0.02, 0.0, 0.1]), (0.0, 1.0)), arm_mean(np.array([0.98, 1.0, 0.9]), (0.0, 1.0))
    free = mean_interval(np.array([0.02, 0.0, 0.1]))
    assert free.low < 0 < free.high < 1
    assert (low.low, low.high) == (0.0, free.high)
    assert (high.low, high.high) == (pytest.approx(1 - free.high), 1.0)
    values = np.array([0.4, 0.5, 0.6])
    assert (arm_mean(values, (0.0, 1.0)).low, arm_mean(values).high) == (
        mean_interval(values).low,
        mean_interval(values).high,
    )


@pytest.mark.parametrize("values", [[0.4, 0.5], [0.4, np.nan, 0.5], [0.45]])
def test_an_arms_mean_of_two_seeds_has_no_interval(values):
    found = arm_mean(np.array(values), (0.0, 1.0))
    assert found.text() == "+0.450 (no interval)"
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.8, 15), (0.5, 34), (0.2, 199)])
def test_detectable_difference_agrees_with_power_tables(effect, num_seeds):
    """Pairs that a two-sided t test at 5 % needs for 80 % power, as G*Power has them (Faul et al. 2007)."""
    enough, too_few = (Estimate(0, 1 / math.sqrt(n), n - 1, n) for n in (num_seeds, num_seeds - 1))
    assert detectable_difference(enough) <= effect < detectable_difference(too_few)


@pytest.mark.parametrize(
    ("size", "df", "level", "correlation"), [(3, 6, 0.9875, 0.5), (4, 12, 0.975, 0.3), (7, 2, 0.9, 0)]
)
def test_critical_values_agree_with_the_multivariate_t(size, df, level, correlation):
    critical = np.full(size, critical_value(level, df, size, correlation))
    shape = np.full((size, size), correlation) + (1 - correlation) * np.eye(size)
    family = stats.multivariate_t(shape=shape, df=df)
    inside = family.cdf(critical, lower_limit=-critical, maxpts=100_000, random_state=0)
    assert inside == pytest.approx(level, abs=2e-4)


@pytest.mark.parametrize(
    ("level", "decimals", "text"),
    [
        *((0.95, 4, "95"), (0.975, 4, "97.5"), (0.996875, 4, "99.6875")),
        *((0.99994, 2, "99.99"), (0.99996, 2, "99.996"), (1 - 1e-9, 2, "99.9999999"), (1.0, 2, "100")),
    ],
)
def test_levels_in_per_cent_have_no_zeros_at_their_end_and_only_that_of_all_is_100(level, decimals, text):
    assert percent(level, decimals) == text


@pytest.mark.parametrize("noise", [1e-19, -1e-19, 3e-17, -3e-17])
def test_means_that_differ_in_their_last_digits_are_printed_alike(noise):
    """A mean of 0, and one between two printed numbers, on processors that add in another order."""
    for mean in (0.0, -1 / 1024, 0.0005):
        texts = {Estimate(one, 0.001, 3, 4).text(".9f") for one in (mean, mean + noise)}
        assert len(texts) == 1, texts


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3))
def test_rounding_changes_a_mean_by_less_than_a_billionth_of_its_error(mean, error):
    assert abs(Estimate(mean, error, 3, 4).mean - mean) <= error * 1e-9


def test_no_number_of_seeds_makes_up_for_too_few_items():
    """The closed form: with a known error, 0.0308 is (2.241 + 0.842) errors of 0.01."""
    aim = Aim(0.0308, 0.0125)
    factor = stats.norm.ppf(0.9875) + stats.norm.ppf(0.8)
    assert seeds_for(Noise(0.04, 1.001 * 0.0308 / factor), aim) == math.inf
    assert math.isfinite(seeds_for(Noise(0.04, 0.99 * 0.0308 / factor), aim))
    assert seeds_for(Noise(0.0, 0.99 * 0.0308 / factor), aim) == 2


def test_noise_of_an_estimate_keeps_its_parts_apart():
    """Four seeds with a spread of 0.2, and items that add 0.05 to the error whatever the seeds."""
    seeds = Estimate(0.1, 0.1, 3, 4)
    covariance_SS = np.full((4, 4), 0.05**2)  # all of it is shared by seeds: there is no rest
    both = with_items(seeds, covariance_SS, 1000)
    assert both.error == pytest.approx(math.hypot(0.1, 0.05))
    noise = Noise.of(both)
    assert (noise.seeds, noise.items) == (pytest.approx(0.2), pytest.approx(0.05))
    assert noise.error(4) == pytest.approx(both.error)
    assert noise.df(4) == pytest.approx(both.df, abs=1), "which is rounded down"
    assert Noise.of(seeds) == Noise(pytest.approx(0.2), 0.0)
    assert Noise.of(replace(seeds, error=0.0)) == Noise(0.0)


@pytest.mark.parametrize("name", ["prefix_distribution", "scaling_laptop"])
def test_means_of_a_committed_report_follow_from_its_records_by_pandas_and_scipy(name):
    folder = ROOT / "reports" / "published" / name
    means = json.loads((folder / "report.json").read_text())["numbers"]["means"]
    records = pd.read_parquet(folder / "records.parquet", columns=["arm", "metrics"])
    rows = [(arm, row["metric"], row["value"]) for arm, metrics in records.to_numpy() for row in metrics]
    values = pd.DataFrame(rows, columns=["arm", "metric", "value"]).dropna().groupby(["metric", "arm"])["value"]
    for metric, by_arm in means.items():
        for arm, number in by_arm.items():
            value = values.get_group((metric, arm))
            expected = [value.mean(), math.nan, math.nan]
            if number["low"] is not None:
                ends = stats.t.interval(number["level"], len(value) - 1, value.mean(), stats.sem(value))
                expected[1:] = np.clip(ends, *LIMITS.get(number["unit"], (-math.inf, math.inf)))
            shown = [math.nan if number[end] is None else number[end] for end in ("mean", "low", "high")]
            assert shown == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), (metric, arm)
