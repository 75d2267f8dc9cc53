"""Rows of a table; datasets and Parquet files test the rest."""

import numpy as np
import pyarrow as pa
import pytest

from aimv2.base import address
from aimv2.datasets.table_records import HASHES, note_of, write_keys


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"key": ["b", "a"], "id": [1, 2]}, "key"),
        ({"key": ["a", "a"], "id": [1, 2]}, "id"),
        ({"key": ["a", None], "__key__": ["a", "b"]}, "__key__"),
        ({"id": [1, 1]}, None),
        ({"caption": ["a", "b"]}, None),
    ],
)
def test_the_key_is_the_first_column_of_unique_values_or_the_row(tmp_path, columns, column):
    calls = []
    table = pa.concat_tables([pa.table(columns).slice(0, 1), pa.table(columns).slice(1)])
    assert write_keys(tmp_path, table, lambda done, total: calls.append((done, total))) == column
    values = range(2) if column is None else columns[column]
    assert np.load(tmp_path / HASHES).tolist() == [address.hash64(str(value)) for value in values]
    assert calls[-1] == (2, 2)
    assert bool(note_of(column)) == (column is None)
