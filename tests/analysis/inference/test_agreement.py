"""Agreement against obvious loops and scipy."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.analysis.inference.agreement import agreement, agreements, merged

ARMS = ["a", "b", "c", "d"]


def scale_of(means, *, noise=0.0, num_seeds=3, rng=0):
    values = np.asarray(means) + np.random.default_rng(rng).normal(0, noise, (num_seeds, len(means)))
    return pd.DataFrame(values, index=range(num_seeds), columns=ARMS[: len(means)])


@given(
    small=st.lists(st.integers(0, 5), min_size=4, max_size=4), large=st.lists(st.integers(0, 5), min_size=4, max_size=4)
)
def test_decision_accuracy_matches_the_obvious_loop(small, large):
    points = []
    for one, other in combinations(range(4), 2):
        if small[one] == small[other] or large[one] == large[other]:
            points.append(0.5)
        else:
            points.append(float((small[one] < small[other]) == (large[one] < large[other])))
    found = agreement(scale_of(small), scale_of(large), num_draws=2)
    assert found.accuracy.value == pytest.approx(sum(points) / 6)
    assert found.accuracy.n == 6
    if len(set(small)) > 1 and len(set(large)) > 1:
        assert found.rank.value == pytest.approx(stats.spearmanr(small, large).statistic)
    else:
        assert math.isnan(found.rank.value)


@given(st.lists(st.lists(st.sampled_from([0, 1, 1 + 1e-13, 2, math.nan]), min_size=4, max_size=4), min_size=1))
def test_values_of_a_row_that_differ_by_rounding_are_merged(rows):
    for row, found in zip(rows, merged(np.array(rows)), strict=True):
        smallest = [min([one for one in row if abs(one - value) < 1e-12], default=math.nan) for value in row]
        np.testing.assert_array_equal(found, smallest)


def test_pairs_that_the_larger_scale_does_not_tell_apart_are_left_out():
    """At the large scale a and b are apart from c and d; the two pairs within are equal but for noise."""
    large = scale_of([1.0, 1.0, 2.0, 2.0], noise=0.05, num_seeds=4)
    small = scale_of([1.0, 1.1, 2.0, 1.05], num_seeds=4)
    told = [
        (one, other) for one, other in combinations(ARMS, 2) if stats.ttest_rel(large[one], large[other]).pvalue < 0.05
    ]
    right = [(small[one].mean() < small[other].mean()) == (large[one].mean() < large[other].mean())
             for one, other in told]  # fmt: skip
    found = agreement(small, large)
    assert 0 < len(told) < 6
    assert found.distinguishable.n == len(told)
    assert found.distinguishable.value == pytest.approx(np.mean(right))


@pytest.mark.exhaustive
def test_the_same_seeds_are_resampled_together():
    """What a seed adds to an arm at both scales moves both orders alike, so they always agree."""
    effects = scale_of([1.0, 1.0, 1.0, 1.0], noise=1.0, num_seeds=5)
    together = agreement(effects, effects)
    apart = agreement(effects, effects.set_axis(range(5, 10)))
    assert (together.accuracy.low, together.rank.low) == (1, pytest.approx(1))
    assert apart.accuracy.low < 1


def test_a_seed_without_runs_at_one_scale_leaves_the_others_paired():
    """The seed that the large scale lacks adds nothing at the small one, so orders agree in every draw."""
    effects = scale_of([1.0, 1.0, 1.0, 1.0], noise=1.0, num_seeds=5)
    effects.loc[4] = 0.0
    found = agreement(effects, effects.drop(index=4), num_draws=300)
    assert (found.accuracy.low, found.accuracy.value, found.accuracy.num_seeds) == (1, 1, 4)


def test_only_arms_of_both_scales_count_and_a_missing_run_costs_its_arm_a_seed():
    small, large = scale_of([1, 2, 3, 4]), scale_of([1.0, 2.0, 3.0])
    large.loc[0, "b"] = 9.0
    assert agreement(small, large, num_draws=10).accuracy.value == pytest.approx(2 / 3)
    large.loc[0, "b"] = np.nan
    whole = agreement(small, large, num_draws=10)
    assert (whole.accuracy.value, whole.accuracy.n, whole.rank.n) == (1, 3, 3)


def test_one_seed_gives_no_interval():
    found = agreement(scale_of([1, 2, 3], num_seeds=1), scale_of([1, 2, 3], num_seeds=1))
    assert found.accuracy.text() == "1.00 (no interval)"
    assert found.distinguishable.text() == "no value"


def test_each_scale_is_compared_with_the_largest():
    scales = {name: scale_of(means) for name, means in (("s", [1, 2, 3]), ("m", [1, 3, 2]), ("l", [1, 3, 2]))}
    found = agreements(scales, num_draws=10)
    assert [(one.small, one.large) for one in found] == [("s", "l"), ("m", "l")]
    assert [one.accuracy.value for one in found] == pytest.approx([2 / 3, 1])
    assert agreements({}) == []
    unfinished = {**scales, "xl": scale_of([1])}
    assert [one.large for one in agreements(unfinished, num_draws=10)] == ["l", "l"], "one arm has no order"
