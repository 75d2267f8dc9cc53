import tracemalloc
from itertools import pairwise, product, zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from aimv2.base import address
from aimv2.base.order import Order, OrderedPart, equal_edges, quotas


def order_of(start, stop, *, num_rows, block_rows=7, seed=3, purpose="order"):
    order = Order([OrderedPart("", equal_edges(num_rows, block_rows))])
    return order.at(np.arange(start, stop), seed=seed, purpose=purpose)


@given(num_rows=st.integers(1, 60), block_rows=st.integers(1, 70), seed=st.integers(0, 1000), epoch=st.integers(0, 5))
def test_sample_order_shows_every_row_once_per_epoch(num_rows, block_rows, seed, epoch):
    places = (epoch * num_rows, (epoch + 1) * num_rows)
    epochs, rows = order_of(*places, seed=seed, num_rows=num_rows, block_rows=block_rows)
    assert set(epochs) == {epoch}
    assert sorted(rows) == list(range(num_rows))


@given(num_rows=st.integers(1, 40), batch=st.integers(1, 50), start=st.integers(0, 200))
def test_sample_order_of_a_part_is_that_part_of_the_whole(num_rows, batch, start):
    whole, part = (order_of(first, start + batch, num_rows=num_rows) for first in (0, start))
    for all_of_it, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[start:], some)


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
BLOCK_ROWS = (1000, 9, 1000)


def rows_of(sizes):
    """Return the rows of sources, one after the other."""
    return [range(end - size, end) for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]


def of_sources(sizes, shares, num_nodes=1):
    edges = [rows.start + equal_edges(len(rows), size) for rows, size in zip(rows_of(sizes), BLOCK_ROWS, strict=False)]
    return Order(list(map(OrderedPart, SOURCES, edges)), shares, num_nodes)


def mixed(weights, sizes, stop, *, seed):
    return of_sources(sizes, quotas(weights)).at(np.arange(stop), seed=seed)


WEIGHTS_AND_SIZES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 150)), min_size=1, max_size=3)


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


@given(case=WEIGHTS_AND_SIZES.filter(lambda case: any(weight for weight, _ in case)), seed=st.integers(0, 1000))
def test_mixture_shows_every_row_of_a_source_once_per_epoch_of_the_source(case, seed):
    weights, sizes = zip(*case, strict=True)
    epochs, rows = mixed(weights, sizes, 1300, seed=seed)
    for own in rows_of(sizes):
        own_epochs, own_rows = (values[np.isin(rows, own)] for values in (epochs, rows))
        assert (np.diff(own_epochs) >= 0).all()
        for epoch in range(own_epochs.max(initial=-1) + 1):
            shown = own_rows[own_epochs == epoch].tolist()
            assert len(set(shown)) == len(shown)
            assert set(shown) == set(own) or epoch == own_epochs.max(), "only the last epoch is incomplete"


def test_mixture_matches_the_obvious_loop():
    """Oracle: a loop over the places that counts."""
    weights, sizes, seed = (2, 0, 1), (70, 5, 40), 4
    seen, expected = [0, 0, 0], []
    for place in range(2500):
        block, offset = divmod(place, 1000)
        dealt = address.generator(seed=seed, purpose="order of sources", epoch=block).permutation(1000)
        source = 0 if dealt[offset] < 667 else 2
        epoch, nth = divmod(seen[source], sizes[source])
        own = address.generator(seed=seed, purpose=f"order in {SOURCES[source]}", epoch=epoch)
        expected.append((epoch, rows_of(sizes)[source][own.permutation(sizes[source])[nth]]))
        seen[source] += 1
    assert list(zip(*mixed(weights, sizes, 2500, seed=seed), strict=True)) == expected


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
    epochs, rows = of_sources(sizes, None).at(np.arange(2 * total), seed=seed)
    orders = {}
    for epoch, (source, size) in product(range(2), enumerate(sizes)):
        own = {"num_rows": size, "block_rows": BLOCK_ROWS[source], "purpose": f"order in {SOURCES[source]}"}
        _, orders[epoch, source] = order_of(epoch * size, (epoch + 1) * size, seed=seed, **own)
    wanted = [(epoch, rows_of(sizes)[source][orders[epoch, source][nth]]) for epoch, source, nth in expected]
    assert list(zip(epochs, rows, strict=True)) == wanted


@pytest.mark.parametrize(
    "order", [Order([OrderedPart("", np.array([0, 5]))]), of_sources((2, 3), quotas((3, 1)))], ids=["natural", "mixed"]
)
def test_orders_of_two_purposes_are_independent(order):
    """As shuffled captions require: every row meets every other in proportion to how often each is shown."""
    met = np.zeros((5, 5))
    for seed in range(2):
        _, one = order.at(np.arange(5000), seed=seed)
        _, other = order.at(np.arange(5000), seed=seed, purpose="another")
        np.add.at(met, (one, other), 1)
    assert chi2_contingency(met).pvalue > 1e-3


def test_mixtures_of_different_shares_show_a_source_in_the_same_order():
    sizes = (60, 90)
    own = rows_of(sizes)[1]
    shown = []
    for weights in ((1, 1), (1, 9), (0, 1)):
        epochs, rows = mixed(weights, sizes, 3000, seed=2)
        shown.append([pair for pair in zip(epochs, rows, strict=True) if pair[1] in own])
    assert [len(pairs) for pairs in shown] == [1500, 2700, 3000]
    assert shown[0] == shown[1][:1500] == shown[2][:1500]


def edges_of(sizes):
    return np.cumsum([0, *sizes])


blocks = st.lists(st.integers(1, 30), min_size=1, max_size=12).map(edges_of)


@given(edges=blocks, num_nodes=st.integers(1, 5), seed=st.integers(0, 99))
def test_nodes_show_every_row_once_in_their_epochs_and_keep_their_rows(edges, num_nodes, seed):
    total = int(edges[-1])
    if total < num_nodes:
        return
    places = np.arange(3 * total * num_nodes)
    epochs, rows = Order([OrderedPart("", edges)], num_nodes=num_nodes).at(places, seed=seed)
    for node in range(num_nodes):
        own = range(total * node // num_nodes, total * (node + 1) // num_nodes)
        own_epochs, own_rows = epochs[node::num_nodes], rows[node::num_nodes]
        for epoch in range(3):
            assert sorted(own_rows[own_epochs == epoch]) == list(own)


@given(num_nodes=st.sampled_from([1, 2, 3, 6]), offset=st.integers(1, 9), step=st.integers(0, 5))
def test_places_of_a_batch_are_those_of_the_nodes_one_after_the_other(num_nodes, offset, step):
    size = 6 * offset
    places = Order([OrderedPart("", edges_of([9]))], num_nodes=num_nodes).places(step * size, size, np.arange(size))
    assert sorted(places) == list(range(step * size, (step + 1) * size))
    assert (places % num_nodes == np.repeat(np.arange(num_nodes), size // num_nodes)).all()
    for node in range(num_nodes):
        assert (np.diff(places[places % num_nodes == node]) > 0).all()


@pytest.mark.exhaustive
@given(
    sizes=st.lists(st.integers(8, 120), min_size=1, max_size=3),
    num_nodes=st.integers(1, 3),
    start=st.integers(0, 600),
    batch=st.integers(1, 60),
)
def test_blocks_ahead_are_those_that_the_places_read_now_and_next(sizes, num_nodes, start, batch):
    """Oracle: the blocks and epochs in which the rows of all later places are, in their order."""
    order = of_sources(sizes, quotas([1] * len(sizes)), num_nodes)
    edges = set()
    for own, block in zip(rows_of(sizes), BLOCK_ROWS, strict=False):
        edges |= {own.start + len(own) * node // num_nodes for node in range(num_nodes)} | set(own[::block])
    first = sorted(edges)
    places = np.arange(start, start + batch + 3000)
    epochs, rows = order.at(places, seed=2)
    blocks = list(zip(epochs.tolist(), np.searchsorted(first, rows, side="right").tolist(), strict=True))
    sources = np.searchsorted(np.cumsum(sizes), rows, side="right")
    expected = []
    for node in range(num_nodes):
        for source in range(len(sizes)):
            here = np.flatnonzero((places % num_nodes == node) & (sources == source))
            if now := [blocks[place] for place in here if place < batch]:
                after = next(blocks[place] for place in here if place >= batch and blocks[place] != now[-1])
                expected.append([first[block - 1] for _, block in dict.fromkeys([*now, after])])
    found = order.ahead(places[:batch], seed=2)
    turns = [row for turn in zip_longest(*expected) for row in turn if row is not None]
    assert [rows.start for rows in found] == turns
    assert {rows.stop for rows in found} <= {*first, sum(sizes)}
