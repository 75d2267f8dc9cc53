import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from aimv2.data.bijection import Bijection


@given(size=st.integers(1, 700), seed=st.integers(0, 2**32), epoch=st.integers(0, 9))
def test_a_bijection_is_a_permutation_and_its_inverse_undoes_it(size, seed, epoch):
    bijection, numbers = Bijection(size, seed=seed, purpose="test", epoch=epoch), np.arange(size)
    places = bijection(numbers)
    assert sorted(places.tolist()) == list(range(size))
    np.testing.assert_array_equal(bijection.inverse(places), numbers)


@given(size=st.integers(1, 2**62), number=st.integers(0, 2**62))
def test_any_size_is_permuted_within_itself(size, number):
    bijection, number_1 = Bijection(size, seed=0, purpose="test"), np.array([number % size])
    place_1 = bijection(number_1)
    assert 0 <= place_1[0] < size
    assert bijection.inverse(place_1) == number_1


def test_seeds_purposes_and_epochs_give_different_permutations():
    keys = [(seed, purpose, epoch) for seed in range(3) for purpose in "ab" for epoch in range(3)]
    found = {tuple(Bijection(40, seed=s, purpose=p, epoch=e)(np.arange(40))) for s, p, e in keys}
    assert len(found) == len(keys)


def test_every_number_comes_to_every_place_equally_often():
    """Oracle: a uniform random permutation. 5 numbers, 5 places, 4000 keys."""
    count = np.zeros((5, 5))
    for seed in range(4000):
        count[np.arange(5), Bijection(5, seed=seed, purpose="test")(np.arange(5))] += 1
    assert chisquare(count.ravel(), ddof=8).pvalue > 1e-3
