import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aimv2.data.order import sample_order


@given(num_rows=st.integers(1, 60), seed=st.integers(0, 1000), epoch=st.integers(0, 5))
def test_every_epoch_shows_every_row_once(num_rows, seed, epoch):
    epochs, rows = sample_order(seed=seed, start=epoch * num_rows, stop=(epoch + 1) * num_rows, num_rows=num_rows)
    assert set(epochs) == {epoch}
    assert sorted(rows) == list(range(num_rows))


@given(num_rows=st.integers(1, 40), batch=st.integers(1, 50), start=st.integers(0, 200))
def test_any_part_of_the_order_is_what_the_whole_has_there(num_rows, batch, start):
    whole = sample_order(seed=3, start=0, stop=start + batch, num_rows=num_rows)
    part = sample_order(seed=3, start=start, stop=start + batch, num_rows=num_rows)
    for all_of_it, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[start:], some)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(sample_order(seed=seed, start=epoch * 50, stop=(epoch + 1) * 50, num_rows=50)[1])
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
