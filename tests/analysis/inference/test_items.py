import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimv2.analysis.inference.intervals import NO_ESTIMATE, mean_interval
from aimv2.analysis.inference.items import ItemMoments, influence, item_covariance, item_variance, with_items


def test_parts_of_a_ratio_add_up_and_predict_its_change():
    rng = np.random.default_rng(0)
    weight, total = rng.integers(1, 9, 200).astype(float), rng.gamma(2, 3, 200)
    parts = influence(total, weight)
    assert parts.mean() == pytest.approx(0, abs=1e-12)
    ratio = total.sum() / weight.sum()
    without = (total.sum() - total[7]) / (weight.sum() - weight[7])
    assert ratio - without == pytest.approx(parts[7] / 200, rel=0.05)


def test_items_add_their_mean_square_beyond_the_rest_to_the_squared_error():
    differences = simulated(np.random.default_rng(3), seeds=3, items=5)
    of_items, rest = (square / differences.size for square in mean_squares(differences))
    assert of_items > rest
    alone = mean_interval(differences.mean(axis=1))
    whole = over_items(alone, differences)
    assert whole.error == pytest.approx(np.sqrt(alone.error**2 + of_items - rest))
    assert whole.items_error == pytest.approx(np.sqrt(of_items - rest))
    terms = [alone.error**2, of_items, -rest]
    assert whole.df == max(int(sum(terms) ** 2 / (terms[0] ** 2 / 2 + terms[1] ** 2 / 4 + terms[2] ** 2 / 8)), 1)


def test_items_that_add_nothing_leave_the_error():
    differences = np.array([[1.0, -1.0], [-1.0, 1.0], [2.0, 0.0]])
    alone = mean_interval(differences.mean(axis=1))
    whole = over_items(alone, differences)
    assert whole.error == alone.error
    assert whole.covers == "seeds and items"


def test_without_two_seeds_there_is_nothing_to_add():
    assert with_items(NO_ESTIMATE, np.zeros((1, 1)), 5) is NO_ESTIMATE


def mean_squares(difference_SN):
    """Return the mean squares of items and of the rest from the table itself (Searle et al. 1992, chapter 4)."""
    num_seeds, num_items = difference_SN.shape
    by_item_N = difference_SN.mean(axis=0)
    rest_SN = difference_SN - by_item_N - difference_SN.mean(axis=1, keepdims=True) + difference_SN.mean()
    return num_seeds * by_item_N.var(ddof=1), (rest_SN**2).sum() / ((num_seeds - 1) * (num_items - 1))


@settings(max_examples=30, deadline=None)
@given(
    rng=st.integers(0, 2**32).map(np.random.default_rng),
    seeds=st.integers(2, 6),
    num_items=st.integers(2, 40),
    scale=st.floats(1e-3, 1e3),
)
def test_moments_of_runs_give_the_mean_squares_of_their_differences(rng, seeds, num_items, scale):
    """Two arms and two metrics whose parts have much in common, as those of runs on the same items have."""
    shared = rng.normal(0, 10 * scale, num_items)
    parts = {
        metric: {
            (arm, seed): pd.Series(shared + rng.normal(0, scale, num_items)) for arm in "ab" for seed in range(seeds)
        }
        for metric in ("loss", "causal_loss")
    }
    moments = ItemMoments(parts.get)
    for metric, than_metric in (("loss", "loss"), ("loss", "causal_loss"), ("causal_loss", "loss")):
        table = np.array([parts[metric]["a", seed] - parts[than_metric]["b", seed] for seed in range(seeds)])
        covariance, found_items = moments.of_sum([("a", metric, 1.0), ("b", than_metric, -1.0)])
        assert found_items == num_items
        expected = np.array(mean_squares(table)) / table.size
        assert item_variance(covariance) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-12 * scale**2)


A_MINUS_B = [("a", "loss", 1.0), ("b", "loss", -1.0)]


def moments_of(items_of_runs):
    """Return moments of runs of arms a and b, by arm and seed with these items."""
    rng = np.random.default_rng(0)
    parts = {run: pd.Series(rng.normal(size=len(items)), index=items) for run, items in items_of_runs.items()}
    return ItemMoments(lambda metric: parts if metric == "loss" else {})


def test_only_seeds_in_which_both_arms_have_items_are_compared():
    moments = moments_of({("a", 0): [1, 2], ("a", 1): [1, 2], ("b", 1): [1, 2], ("b", 2): [1, 2]})
    covariance, num_items = moments.of_sum(A_MINUS_B)
    assert covariance.shape == (1, 1)
    assert num_items == 2


@pytest.mark.parametrize("items", [[1, 3], [1, 2, 3]])
def test_runs_with_other_items_are_not_compared(items):
    moments = moments_of({("a", 0): [1, 2], ("a", 1): items, ("b", 0): [1, 2], ("b", 1): [1, 2]})
    assert moments.of_sum(A_MINUS_B) == (pytest.approx(np.empty((0, 0))), 0)
    assert np.isnan(moments.covariance("loss", "loss").loc[("a", 0), ("a", 1)])


def test_metrics_and_arms_without_items_are_not_compared():
    moments = moments_of({("a", 0): [1, 2], ("b", 0): [1, 2]})
    for other in (("a", "accuracy", -1.0), ("c", "loss", -1.0)):
        assert moments.of_sum([other, ("b", "loss", 1.0)])[1] == moments.of_sum([("b", "loss", 1.0), other])[1] == 0


def test_moments_that_are_chosen_are_the_only_ones():
    moments = moments_of({("a", 0): [1, 2], ("b", 0): [1, 2]})
    pairs = [("loss", "loss"), ("loss", "accuracy"), ("accuracy", "accuracy")]
    chosen = moments.only(pairs)
    assert chosen.known.keys() == {("loss", "loss")}, "no run has items of the accuracy"
    assert chosen.of_sum(A_MINUS_B)[0] == moments.of_sum(A_MINUS_B)[0]
    assert moments.only([]).of_sum(A_MINUS_B)[1] == 0


def over_items(estimate, difference_SN):
    """Return the estimate with the items' part of these differences."""
    return with_items(estimate, item_covariance(difference_SN, difference_SN), difference_SN.shape[1])


def simulated(rng, *, seeds=4, items=60, of_seed=0.2, of_item=1.5, of_rest=1.0):
    """Draw paired differences with known components of variance and the mean 0."""
    part_S1, part_N = rng.normal(0, of_seed, (seeds, 1)), rng.normal(0, of_item, items)
    return part_S1 + part_N + rng.normal(0, of_rest, (seeds, items))


@pytest.mark.exhaustive
@pytest.mark.parametrize("of_item", [0.0, 0.5, 1.5])
def test_intervals_over_seeds_and_items_cover_their_mean(of_item):
    rng, num_studies, hits, hits_alone = np.random.default_rng(2), 4000, 0, 0
    for _ in range(num_studies):
        differences = simulated(rng, of_item=of_item)
        alone = mean_interval(differences.mean(axis=1))
        whole = over_items(alone, differences)
        hits += whole.low <= 0 <= whole.high
        hits_alone += alone.low <= 0 <= alone.high
    assert hits / num_studies > 0.95 - 3.1 * np.sqrt(0.05 * 0.95 / num_studies), "99.9 % bound of the simulation"
    if of_item > 1:
        assert hits_alone / num_studies < 0.9, "over seeds alone the intervals are too short"


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": -1.0}, {"a": 0.5, "b": 0.5, "c": -1.0}])
def test_items_of_a_combination_are_those_of_the_weighted_sums(weights):
    rng = np.random.default_rng(1)
    parts = {(arm, seed): pd.Series(rng.normal(size=30)) for arm in "abc" for seed in range(3)}
    sums = np.stack([sum(weight * parts[arm, seed] for arm, weight in weights.items()) for seed in range(3)])
    moments = ItemMoments({"loss": parts}.get)
    found, num_items = moments.of_sum([(arm, "loss", weight) for arm, weight in weights.items()])
    assert found == pytest.approx(item_covariance(sums, sums))
    assert num_items == 30


def computed(parts):
    """Return computed moments of runs, whose parts are by metric "m"."""
    return ItemMoments(lambda metric: parts).only([("m", "m")])


def parts_of(rng, seeds, noise):
    """Return parts whose item effect is that of the arm, whatever the seed, and noise of each run."""
    effect = {arm: rng.normal(size=40) for arm in ("a", "b")}
    return {
        (arm, seed): pd.Series(effect[arm] + noise * rng.normal(size=40)) for arm in effect for seed in range(seeds)
    }


def test_groups_of_runs_join_to_what_the_runs_together_have():
    """Without noise of runs, the covariances that no group knows are exactly the mean of those that one knows."""
    parts = parts_of(np.random.default_rng(0), 5, noise=0.0)
    groups = [{run: part for run, part in parts.items() if (run[1] < 2) == is_first} for is_first in (True, False)]
    joined, whole = ItemMoments.joined(*map(computed, groups)), computed(parts)
    weights = [("a", "m", 1.0), ("b", "m", -1.0)]
    found, expected = joined.of_sum(weights), whole.of_sum(weights)
    assert found[1] == expected[1] == 40
    assert np.allclose(found[0], expected[0])


def test_groups_with_other_items_join_without_covariances_of_items():
    rng = np.random.default_rng(2)
    one, other = (
        parts_of(rng, 2, 1.0),
        {(arm, seed + 2): part[:30] for (arm, seed), part in parts_of(rng, 2, 1.0).items()},
    )
    joined = ItemMoments.joined(computed(one), computed(other))
    assert ("m", "m") not in joined.known


def test_runs_are_chosen_and_their_arms_renamed():
    parts = parts_of(np.random.default_rng(3), 3, noise=1.0)
    arms = {("a", 0): "a", ("a", 2): "a", ("b", 1): "c"}
    found = computed(parts).of_runs(arms)
    whole = computed(parts).covariance("m", "m")
    assert list(found.num_items("m").index) == [("a", 0), ("a", 2), ("c", 1)]
    assert found.covariance("m", "m").loc[("a", 2), ("c", 1)] == whole.loc[("a", 2), ("b", 1)]
