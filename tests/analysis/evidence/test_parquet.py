"""Tables that pyarrow wrote, parsed by it and by the other library; pyarrow's own conversion is the oracle."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.evidence.parquet import BrokenParquetError, frame, nested_frame, read_table

PUBLISHED = sorted(Path("reports/published").glob("*/records.parquet"))


def written(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("has_pyarrow", [True, False])
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_committed_records_are_read_as_by_pyarrow(path, has_pyarrow):
    table, expected = read_table(path.read_bytes(), has_pyarrow=has_pyarrow), pq.ParquetFile(path)
    assert table.schema.metadata == {
        key: value for key, value in expected.metadata.metadata.items() if not key.startswith(b"ARROW")
    }
    whole = expected.read()
    lists = [field.name for field in whole.schema if pa.types.is_list(field.type)]
    flat = [name for name in whole.column_names if name not in lists]
    for rows in (np.ones(len(whole), bool), np.arange(len(whole)) % 3 == 0):
        chosen = whole.select(flat).filter(pa.array(rows)).to_pandas()
        pd.testing.assert_frame_equal(frame(table, flat, rows), chosen)
    for name in lists:
        places, found = nested_frame(table[name])
        column = whole[name].combine_chunks()
        assert places.tolist() == pc.list_parent_indices(column).to_pylist()
        pd.testing.assert_frame_equal(found, pa.Table.from_struct_array(column.flatten()).to_pandas())


values = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(),
    "bool_": st.booleans(),
    "string": st.text(),
}


@given(kind=st.sampled_from(sorted(values)), data=st.data(), has_pyarrow=st.booleans())
def test_every_type_has_pandas_type_with_nulls_and_without_rows(kind, data, has_pyarrow):
    column = data.draw(st.lists(st.one_of(st.none(), values[kind])))
    rows = data.draw(st.lists(st.booleans(), min_size=len(column), max_size=len(column)))
    whole = pa.table({"x": pa.array(column, getattr(pa, kind)())})
    expected = whole.filter(pa.array(rows, pa.bool_())).to_pandas()
    pd.testing.assert_frame_equal(frame(read_table(written(whole), has_pyarrow=has_pyarrow), ["x"], rows), expected)


@given(st.integers(0), st.binary(min_size=1, max_size=4))
def test_a_broken_file_is_refused_or_read(place, noise):
    content = bytearray(written(pa.table({"x": [1, 2, 3], "y": ["a", "b", None]})))
    place %= len(content)
    content[place : place + len(noise)] = noise
    with contextlib.suppress(BrokenParquetError):
        read_table(bytes(content))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"garbage" * 100])
def test_what_is_no_parquet_is_refused_before_the_library_sees_it(content, capfd):
    with pytest.raises(BrokenParquetError):
        read_table(content)
    assert capfd.readouterr().err == ""
