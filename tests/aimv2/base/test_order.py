import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from aimv2.base import address
from aimv2.base.order import Mixture, quotas, sample_order


def order_of(start, stop, **values):
    return sample_order(np.arange(start, stop), **{"seed": 3, "block_rows": 7} | values)


@given(num_rows=st.integers(1, 60), block_rows=st.integers(1, 70), seed=st.integers(0, 1000), epoch=st.integers(0, 5))
def test_sample_order_shows_every_row_once_per_epoch(num_rows, block_rows, seed, epoch):
    epochs, rows = sample_order(
        np.arange(epoch * num_rows, (epoch + 1) * num_rows), seed=seed, num_rows=num_rows, block_rows=block_rows
    )
    assert set(epochs) == {epoch}
    assert sorted(rows) == list(range(num_rows))


@given(num_rows=st.integers(1, 40), batch=st.integers(1, 50), start=st.integers(0, 200))
def test_sample_order_of_a_part_is_that_part_of_the_whole(num_rows, batch, start):
    whole, part = (order_of(first, start + batch, num_rows=num_rows) for first in (0, start))
    for all_of_it, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[start:], some)


def test_sample_order_differs_between_epochs_and_seeds():
    orders = {
        tuple(order_of(epoch * 50, (epoch + 1) * 50, num_rows=50, seed=seed, block_rows=block_rows)[1])
        for seed in range(3)
        for epoch in range(3)
        for block_rows in (6, 50)
    }
    assert len(orders) == 18


def test_rows_within_a_block_are_in_the_order_of_numpys_permutation():
    """Stored runs were made with one permutation of all rows, so a single block must give it."""
    expected = address.generator(seed=3, purpose="order", epoch=2).permutation(50)
    np.testing.assert_array_equal(order_of(100, 150, num_rows=50, block_rows=50)[1], expected)


@given(num_rows=st.integers(1, 300), block_rows=st.integers(1, 40), epoch=st.integers(0, 3))
def test_blocks_are_read_one_after_the_other(num_rows, block_rows, epoch):
    _, rows = order_of(epoch * num_rows, (epoch + 1) * num_rows, num_rows=num_rows, block_rows=block_rows)
    blocks = (rows // block_rows).tolist()
    changes = sum(one != other for one, other in pairwise(blocks))
    assert changes == len(set(blocks)) - 1


def test_an_order_of_two_billion_rows_takes_the_memory_of_a_block():
    tracemalloc.start()
    epochs, rows = order_of(3 * 10**9, 3 * 10**9 + 64, num_rows=2 * 10**9, block_rows=2**16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(epochs) == {1}
    assert len(set(rows)) == 64
    assert peak < 16 * 2**16 * 4


SOURCES = ("emoji", "icons", "logos")


def mixture_of(weights, sizes):
    """Return a mixture of sources whose rows are one after the other; blocks of the second one are small."""
    ends = np.cumsum(sizes).tolist()
    rows = tuple(range(end - size, end) for size, end in zip(sizes, ends, strict=True))
    return Mixture(SOURCES[: len(sizes)], quotas(weights), rows, (1000, 9, 1000)[: len(sizes)])


def mixed(weights, sizes, stop, *, start=0, seed=0, purpose="order"):
    return order_of(start, stop, seed=seed, num_rows=sum(sizes), mixture=mixture_of(weights, sizes), purpose=purpose)


def source_at(mixture, row_B):
    return [next(s for s, rows in enumerate(mixture.rows) if row in rows) for row in row_B]


weights_and_sizes = st.integers(1, 3).flatmap(
    lambda num_sources: st.tuples(
        st.lists(st.integers(0, 9), min_size=num_sources, max_size=num_sources).filter(any),
        st.lists(st.integers(1, 150), min_size=num_sources, max_size=num_sources),
    )
)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any))
def test_quotas_are_shares_by_largest_remainder(weights):
    """Oracle: whole numbers. Places go one by one to the source with the largest remainder."""
    found, total = quotas(weights), sum(weights)
    given_out = [1000 * weight // total for weight in weights]
    lacking = [1000 * weight % total for weight in weights]
    while sum(given_out) < 1000:
        source = lacking.index(max(lacking))
        given_out[source] += 1
        lacking[source] = 0
    assert found == tuple(given_out)
    assert found == quotas([weight / 4 for weight in weights]), "only the shares count"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0.3, 0.3, 0.09, 0.28, 0.03), (300, 300, 90, 280, 30)),  # Table 2
        ((1, 1, 1), (334, 333, 333)),
        ((1, 0), (1000, 0)),
        ((1e308, 1e308), (500, 500)),
        ((1, 1e-9), (1000, 0)),
    ],
)
def test_quotas_of_known_weights(weights, expected):
    assert quotas(weights) == expected


@given(case=weights_and_sizes, seed=st.integers(0, 1000), block=st.integers(0, 3))
def test_mixture_has_its_quotas_in_every_block(case, seed, block):
    weights, sizes = case
    mixture = mixture_of(weights, sizes)
    _, rows = mixed(weights, sizes, 1000 * (block + 1), start=1000 * block, seed=seed)
    assert tuple(np.isin(rows, own).sum() for own in mixture.rows) == quotas(weights)


@given(case=weights_and_sizes, seed=st.integers(0, 1000))
def test_mixture_shows_every_row_of_a_source_once_per_epoch_of_the_source(case, seed):
    weights, sizes = case
    epochs, rows = mixed(weights, sizes, 1300, seed=seed)
    for own in mixture_of(weights, sizes).rows:
        own_epochs, own_rows = (values[np.isin(rows, own)] for values in (epochs, rows))
        assert (np.diff(own_epochs) >= 0).all()
        for epoch in range(own_epochs.max(initial=-1) + 1):
            shown = own_rows[own_epochs == epoch].tolist()
            assert len(set(shown)) == len(shown)
            assert set(shown) == set(own) or epoch == own_epochs.max(), "only the last epoch is incomplete"


@given(case=weights_and_sizes, start=st.integers(0, 1200), batch=st.integers(1, 1200))
def test_mixture_of_a_part_is_that_part_of_the_whole(case, start, batch):
    whole, part = mixed(*case, start + batch), mixed(*case, start + batch, start=start)
    for all_of_it, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[start:], some)


def test_mixture_matches_the_obvious_loop():
    """Oracle: a loop over the places that counts."""
    weights, sizes, seed = (2, 0, 1), (70, 5, 40), 4
    mixture, seen, expected = mixture_of(weights, sizes), [0, 0, 0], []
    for place in range(2500):
        block, offset = divmod(place, 1000)
        dealt = address.generator(seed=seed, purpose="order of sources", epoch=block).permutation(1000)
        source = 0 if dealt[offset] < 667 else 2
        epoch, nth = divmod(seen[source], sizes[source])
        own = address.generator(seed=seed, purpose=f"order in {SOURCES[source]}", epoch=epoch).permutation(
            sizes[source]
        )
        expected.append((epoch, mixture.rows[source][own[nth]]))
        seen[source] += 1
    assert list(zip(*mixed(weights, sizes, 2500, seed=seed), strict=True)) == expected


sizes_of_sources = st.lists(st.integers(1, 2500), min_size=2, max_size=3)


def in_turn(sizes, stop, *, start=0, seed=0, purpose="order"):
    mixture = mixture_of([1] * len(sizes), sizes)._replace(quotas=None)
    return order_of(start, stop, seed=seed, num_rows=sum(sizes), mixture=mixture, purpose=purpose)


@given(sizes=sizes_of_sources, seed=st.integers(0, 1000), epoch=st.integers(0, 3))
def test_sources_in_turn_show_every_row_once_per_epoch(sizes, seed, epoch):
    total = sum(sizes)
    epochs, rows = in_turn(sizes, total * (epoch + 1), start=total * epoch, seed=seed)
    assert set(epochs) == {epoch}
    assert sorted(rows) == list(range(total))


@given(sizes=sizes_of_sources, seed=st.integers(0, 1000))
def test_sources_in_turn_have_their_shares_of_every_block(sizes, seed):
    total = sum(sizes)
    _, rows = in_turn(sizes, total, seed=seed)
    for own in mixture_of([1] * len(sizes), sizes).rows:
        for first in range(0, total, 1000):
            shown = np.isin(rows[first : first + 1000], own)
            assert abs(shown.sum() - len(shown) * len(own) / total) < len(sizes)


@given(sizes=sizes_of_sources, start=st.integers(0, 9000), batch=st.integers(1, 1200))
def test_sources_in_turn_in_a_part_are_that_part_of_the_whole(sizes, start, batch):
    whole, part = in_turn(sizes, start + batch), in_turn(sizes, start + batch, start=start)
    for all_of_it, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[start:], some)


def test_sources_in_turn_match_the_obvious_loop():
    """Oracle: a loop that deals each place to the source that is furthest behind its share, or to those after it."""
    sizes, seed = (700, 3, 1900), 4
    total, seen, dealt = sum(sizes), [0, 0, 0], []
    places = [0] * len(sizes)  # that each source and those after it have had
    for _ in range(total):
        for source, size in enumerate(sizes):
            places[source] += 1
            if places[source] * size // sum(sizes[source:]) > seen[source]:
                dealt.append((source, seen[source]))
                seen[source] += 1
                break
    expected = []
    for place in range(2 * total):
        epoch, offset = divmod(place, total)
        block, within = divmod(offset, 1000)
        shuffled = address.generator(seed=seed, purpose="order of sources", epoch=epoch, sample_id=block)
        source, nth = dealt[1000 * block + shuffled.permutation(min(1000, total - 1000 * block))[within]]
        expected.append((epoch, source, nth))
    own = mixture_of((1, 1, 1), sizes)
    epochs, rows = in_turn(sizes, 2 * total, seed=seed)
    orders = {
        (epoch, source): order_of(
            epoch * sizes[source],
            (epoch + 1) * sizes[source],
            seed=seed,
            num_rows=sizes[source],
            block_rows=own.block_rows[source],
            purpose=f"order in {SOURCES[source]}",
        )[1]
        for epoch in range(2)
        for source in range(3)
    }
    wanted = [(epoch, own.rows[source][orders[epoch, source][nth]]) for epoch, source, nth in expected]
    assert list(zip(epochs, rows, strict=True)) == wanted


def test_sources_of_billions_of_rows_take_turns():
    sizes = (1_900_000_003, 7_470_000_001, 3_300_001)
    total = sum(sizes)
    start = total - total % 1000 - 1000
    epochs, rows = in_turn(sizes, total, start=start)
    assert set(epochs) == {0}
    assert len(set(rows)) == total - start
    for own in mixture_of((1, 1, 1), sizes).rows:
        shown = sum(row in own for row in rows.tolist())
        assert abs(shown - (total - start) * len(own) / total) < 3


def test_mixture_differs_between_seeds_blocks_and_purposes():
    mixture = mixture_of((1, 1), (50, 50))
    orders = {
        tuple(source_at(mixture, mixed((1, 1), (50, 50), start + 1000, start=start, seed=seed, purpose=purpose)[1]))
        for seed in range(2)
        for start in (0, 1000)
        for purpose in ("order", "another")
    }
    assert len(orders) == 8


@pytest.mark.parametrize("mixture", [None, mixture_of((3, 1), (2, 3))], ids=["natural", "mixed"])
def test_orders_of_two_purposes_are_independent(mixture):
    """As shuffled captions require: every row meets every other in proportion to how often each is shown."""
    at = {"start": 0, "stop": 5000, "num_rows": 5, "block_rows": 5, "mixture": mixture}
    met = np.zeros((5, 5))
    for seed in range(2):
        _, one = order_of(seed=seed, **at)
        _, other = order_of(seed=seed, purpose="another", **at)
        np.add.at(met, (one, other), 1)
    assert chi2_contingency(met).pvalue > 1e-3


def test_mixtures_of_different_shares_show_a_source_in_the_same_order():
    sizes = (60, 90)
    own = mixture_of((1, 1), sizes).rows[1]
    shown = []
    for weights in ((1, 1), (1, 9), (0, 1)):
        epochs, rows = mixed(weights, sizes, 3000, seed=2)
        shown.append([pair for pair in zip(epochs, rows, strict=True) if pair[1] in own])
    assert [len(pairs) for pairs in shown] == [1500, 2700, 3000]
    assert shown[0] == shown[1][:1500] == shown[2][:1500]
