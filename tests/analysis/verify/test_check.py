"""Intervals against scipy's."""

import numpy as np
import pytest
from scipy import stats

from aimv2.analysis.verify.check import Check, clustered_mean

RANDOM = np.random.default_rng(0)


def bounds(estimate):
    return estimate.mean, estimate.low, estimate.high


def test_clustered_mean_with_one_row_per_cluster_is_the_t_interval():
    values = RANDOM.normal(0.3, 1, 40)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = clustered_mean(values, np.ones(40), np.arange(40))
    assert bounds(found) == pytest.approx((values.mean(), expected.low, expected.high))


def test_copies_within_a_cluster_do_not_narrow_the_interval():
    values, weights = RANDOM.normal(0.3, 1, 40), RANDOM.integers(1, 9, 40).astype(float)
    once = clustered_mean(values, weights, np.arange(40))
    copied = clustered_mean(np.repeat(values, 5), np.repeat(weights, 5), np.repeat(np.arange(40), 5))
    assert bounds(copied) == pytest.approx(bounds(once))
    naive = clustered_mean(np.repeat(values, 5), np.repeat(weights, 5), np.arange(200))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_clustered_interval_covers_the_mean_95_times_in_100():
    held = 0
    for _ in range(400):
        shared = np.repeat(RANDOM.normal(size=20), 6)
        found = clustered_mean(1 + shared + 0.3 * RANDOM.normal(size=120), np.ones(120), np.repeat(np.arange(20), 6))
        held += found.low < 1 < found.high
    assert 0.91 < held / 400 < 0.99


def test_one_cluster_has_no_interval():
    assert not clustered_mean(np.ones(3), np.ones(3), np.zeros(3)).has_interval


def test_check_prints_verdict_name_finding_and_criterion():
    assert str(Check("things hold", True, "2 things", "at least 1")) == (
        "PASS  things hold: 2 things (criterion: at least 1)"
    )
    assert str(Check("things hold", False, "0 things", "at least 1")).startswith("FAIL  things hold")
    assert str(Check("things hold", None, "no things")) == "NOT APPLICABLE  things hold: no things"
