"""Intervals against scipy's."""

import numpy as np
import pytest
from scipy import stats

from analysis.verify.line import clustered_mean, judged, not_applicable

RANDOM = np.random.default_rng(0)


def test_with_a_cluster_per_row_it_is_the_t_interval():
    values = RANDOM.normal(0.3, 1, 40)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = clustered_mean(values, np.ones(40), np.arange(40))
    assert found == pytest.approx((values.mean(), expected.low, expected.high))


def test_copies_within_a_cluster_add_nothing():
    values, weights = RANDOM.normal(0.3, 1, 40), RANDOM.integers(1, 9, 40).astype(float)
    once = clustered_mean(values, weights, np.arange(40))
    copied = clustered_mean(np.repeat(values, 5), np.repeat(weights, 5), np.repeat(np.arange(40), 5))
    assert copied == pytest.approx(once)
    naive = clustered_mean(np.repeat(values, 5), np.repeat(weights, 5), np.arange(200))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_rows_weigh_by_their_weight():
    assert clustered_mean(np.array([2.0, 12.0]), np.array([1.0, 4.0]), np.arange(2)).mean == pytest.approx(14 / 5)
    exact = clustered_mean(np.array([2.0, 8.0, 6.0]), np.array([1.0, 4.0, 3.0]), np.arange(3))
    assert exact == pytest.approx((2, 2, 2))


def test_the_interval_holds_the_mean_in_about_95_of_100_clustered_samples():
    held = 0
    for _ in range(400):
        shared = np.repeat(RANDOM.normal(size=20), 6)
        found = clustered_mean(1 + shared + 0.3 * RANDOM.normal(size=120), np.ones(120), np.repeat(np.arange(20), 6))
        held += found.low < 1 < found.high
    assert 0.91 < held / 400 < 0.99


def test_one_cluster_proves_nothing():
    assert clustered_mean(np.ones(3), np.ones(3), np.zeros(3)) == (1, -np.inf, np.inf)


def test_a_line_says_what_was_found_and_asked():
    assert str(judged("1a", "things hold", True, "2 things", "at least 1")) == (
        "PASS  1a things hold: 2 things (asked: at least 1)"
    )
    assert str(judged("1a", "things hold", False, "0 things", "at least 1")).startswith("FAIL  1a")
    assert str(not_applicable("1a", "things hold", "no things")) == "NOT APPLICABLE  1a things hold: no things"
