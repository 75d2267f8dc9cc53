"""Items against loops over rows."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aimv2.definitions.items import COLUMNS, Items, table

ROWS = st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(-50, 50), st.integers(0, 9)), max_size=30)


def items_of(rows):
    item_N, total_N, weight_N = (np.array([row[place] for row in rows]) for place in range(3))
    return Items.of(item_N, total_N, weight_N)


@given(rows=ROWS)
def test_value_is_the_ratio_of_sums_over_the_parts_that_count(rows):
    counted = [(total, weight) for _, total, weight in rows if weight]
    found = items_of(rows)
    assert [part.dtype for part in found] == [np.int64, np.float32, np.float32]
    assert len(found.item_N) == len(counted)
    if counted:
        assert found.value == sum(total for total, _ in counted) / sum(weight for _, weight in counted)
    else:
        assert math.isnan(found.value)


@given(one=ROWS, other=ROWS)
def test_joined_items_have_the_parts_of_both(one, other):
    both = Items.joined(items_of(one), items_of(other))
    for part, expected in zip(both, items_of(one + other), strict=True):
        assert part.tolist() == expected.tolist()


@given(rows=ROWS)
def test_table_sums_the_parts_of_an_item_and_keeps_the_value(rows):
    expected = {}
    for item, total, weight in rows:
        if weight:
            before = expected.get(item, (0, 0))
            expected[item] = (before[0] + total, before[1] + weight)
    found = table({"empty": items_of([]), "loss": items_of(rows)})
    assert tuple(found.columns) == COLUMNS
    assert [str(kind) for kind in found.dtypes.iloc[1:]] == ["int64", "float32", "float32"]
    assert set(found["metric"]) <= {"loss"}
    assert {row.item: (row.total, row.weight) for row in found.itertuples()} == expected
    assert len(found) == len(expected)


def test_weight_is_one_unless_given_and_the_table_of_nothing_is_empty():
    assert Items.of(np.array([4, 9]), np.array([0.5, 1.0])).weight_N.tolist() == [1, 1]
    assert table({}).empty
    assert tuple(table({}).columns) == COLUMNS
