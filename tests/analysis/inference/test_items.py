import numpy as np
import pytest

from analysis.inference.intervals import NO_ESTIMATE, mean_interval
from analysis.inference.items import influence, item_variance, with_items


def test_parts_of_a_ratio_add_up_and_predict_its_change():
    rng = np.random.default_rng(0)
    weight, total = rng.integers(1, 9, 200).astype(float), rng.gamma(2, 3, 200)
    parts = influence(total, weight)
    assert parts.mean() == pytest.approx(0, abs=1e-12)
    ratio = total.sum() / weight.sum()
    without = (total.sum() - total[7]) / (weight.sum() - weight[7])
    assert ratio - without == pytest.approx(parts[7] / 200, rel=0.05)


def test_with_equal_weights_a_part_is_the_deviation_from_the_mean():
    total = np.array([1.0, 2.0, 6.0])
    assert influence(total, np.ones(3)) == pytest.approx(total - 3)


def test_mean_squares_of_a_balanced_example():
    """Seeds 0 and 1, items 0 to 2; additive, so that nothing is left over."""
    differences = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    items, rest, added = item_variance(differences)
    assert (items, rest) == pytest.approx((2.0, 0.0))  # two seeds x the variance of 2, 3, 4
    assert added == pytest.approx(2 / 6)
    whole = with_items(mean_interval(differences.mean(axis=1)), differences)
    # The means of seeds, 2 and 4, have a variance of 2: 2 / 2 + 2 / 6, with 1 and 2 degrees of freedom.
    assert whole.error == pytest.approx(np.sqrt(1 + 1 / 3))
    assert whole.df == int((1 + 1 / 3) ** 2 / (1 / 1 + (1 / 3) ** 2 / 2))
    assert whole.covers == "seeds and items"


def test_items_that_add_nothing_leave_the_error():
    differences = np.array([[1.0, -1.0], [-1.0, 1.0], [2.0, 0.0]])
    alone = mean_interval(differences.mean(axis=1))
    whole = with_items(alone, differences)
    assert whole.error == alone.error
    assert whole.covers == "seeds and items"


def test_without_two_seeds_there_is_nothing_to_add():
    assert with_items(NO_ESTIMATE, np.zeros((1, 5))) is NO_ESTIMATE


def simulated(rng, *, seeds=4, items=60, of_seed=0.2, of_item=1.5, of_rest=1.0):
    """Draw paired differences with known components of variance and the mean 0."""
    part_S1, part_N = rng.normal(0, of_seed, (seeds, 1)), rng.normal(0, of_item, items)
    return part_S1 + part_N + rng.normal(0, of_rest, (seeds, items))


def test_components_are_estimated_without_bias():
    rng = np.random.default_rng(1)
    found = [item_variance(simulated(rng)) for _ in range(1500)]
    _, rest, added = np.mean(found, axis=0)
    assert rest == pytest.approx(1.0, rel=0.02)
    assert added == pytest.approx(1.5**2 / 60, rel=0.03)


@pytest.mark.exhaustive
@pytest.mark.parametrize("of_item", [0.0, 0.5, 1.5])
def test_intervals_over_seeds_and_items_cover_their_mean(of_item):
    rng, num_studies, hits, hits_alone = np.random.default_rng(2), 4000, 0, 0
    for _ in range(num_studies):
        differences = simulated(rng, of_item=of_item)
        alone = mean_interval(differences.mean(axis=1))
        whole = with_items(alone, differences)
        hits += whole.low <= 0 <= whole.high
        hits_alone += alone.low <= 0 <= alone.high
    assert hits / num_studies > 0.95 - 3.1 * np.sqrt(0.05 * 0.95 / num_studies), "99.9 % bound of the simulation"
    if of_item > 1:
        assert hits_alone / num_studies < 0.9, "over seeds alone the intervals are too short"
