"""Ratios with intervals, on timings with known ratios."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.costs.ratios import percentile, relative

ROUNDS = (1.0, 2.0, 3.0, 1.5, 2.5, 2.0)


def test_ratio_ignores_a_machine_that_slows_down():
    found = relative([1.5 * value for value in ROUNDS], ROUNDS)
    assert (found.median, found.low, found.high, found.n) == (1.5, 1.5, 1.5, 6)
    assert found.text == "1.50 [1.50, 1.50]"
    assert not found.includes_1


def test_six_rounds_have_the_interval_of_their_extremes():
    found = relative([0.9, 1.1, 1.2, 1.0, 1.3, 1.4], [1.0] * 6)
    assert found.text == "1.15 [0.90, 1.40]"
    assert found.includes_1


def test_few_rounds_have_no_interval():
    found = relative([2.0, 2.0], [1.0, 1.0])
    assert found.text == "2.00 (no interval)"
    assert math.isnan(found.low)
    assert not found.includes_1


@given(st.floats(0.5, 2), st.integers(0, 2**32 - 1))
def test_interval_covers_a_constant_ratio_whatever_the_load(ratio, seed):
    """Both calls of a round see the same speed of the machine."""
    ours = np.random.default_rng(seed).lognormal(sigma=1, size=12)
    found = relative(ratio * ours, ours)
    assert found.low == pytest.approx(ratio)
    assert found.high == pytest.approx(ratio)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=25))
def test_interval_equals_an_obvious_loop(timings):
    theirs, ours = np.array(timings).T
    ratios = sorted(t / o for t, o in timings)
    count = len(ratios)
    middle = (ratios[(count - 1) // 2] + ratios[count // 2]) / 2
    # The k-th smallest and k-th largest hold the median between them unless fewer than k fall on one side of it.
    low = high = math.nan
    for k in range(1, count // 2 + 1):
        if sum(math.comb(count, below) for below in range(k)) / 2**count <= 0.025:
            low, high = ratios[k - 1], ratios[count - k]
    found = relative(theirs, ours)
    assert (found.median, found.low, found.high) == pytest.approx((middle, low, high), nan_ok=True)


def test_percentiles_interpolate():
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2
    assert percentile(list(range(21)), 0.95) == 19
