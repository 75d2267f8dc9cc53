"""Parquet files as data frames.

pyarrow parses them where it is installed. Reading reports needs no such large package: without it Arrow's Rust library
parses, in a sixth of the space, and the data are the same. It ends the process at some broken files, where pyarrow
raises an error.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from arro3.core import Array, ChunkedArray, DataType, Table, list_flatten, list_offsets, struct_field
from arro3.io import read_parquet

if TYPE_CHECKING:
    import pandas as pd

HAS_PYARROW = find_spec("pyarrow") is not None
MAGIC = b"PAR1"  # at both ends of a file
TAIL = 8  # bytes: the length of the footer, and MAGIC


class BrokenParquetError(ValueError):
    """A file that is no Parquet, or that cannot be read."""


def read_table(content: bytes, *, has_pyarrow: bool = HAS_PYARROW) -> Table:
    """Return the table in a file's content; its schema has the file's metadata.

    Raises:
        BrokenParquetError: it is no Parquet file, or is broken.
    """
    footer = int.from_bytes(content[-TAIL : -len(MAGIC)], "little")
    if not (content.startswith(MAGIC) and content.endswith(MAGIC) and footer <= len(content) - TAIL - len(MAGIC)):
        raise BrokenParquetError("it is no Parquet file, or the end is missing")
    try:
        return _by_pyarrow(content) if has_pyarrow else read_parquet(BytesIO(content)).read_all()
    except Exception as error:  # each library has errors of its own
        raise BrokenParquetError(str(error)) from error
    except BaseException as error:  # the Rust library panics at some broken footers, an exception of no other class
        if type(error).__name__ != "PanicException":
            raise
        raise BrokenParquetError(str(error)) from error


def _by_pyarrow(content: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(content))
    metadata = {key: value for key, value in (file.metadata.metadata or {}).items() if key != b"ARROW:schema"}
    return Table.from_arrow(file.read().replace_schema_metadata(metadata))


def frame(table: Table, columns: Sequence[str], is_chosen: Sequence[bool]) -> "pd.DataFrame":
    """Return columns of some rows as a data frame, with the types that pandas gives to what Arrow has."""
    import pandas as pd  # here and below, because plans of launches read tables without it

    chosen = {name: list(compress(table[name].to_pylist(), is_chosen)) for name in columns}
    series = {name: _series(values, table.schema.field(name).type) for name, values in chosen.items()}
    return pd.DataFrame(series, columns=list(columns))


def nested_frame(column: ChunkedArray) -> "tuple[np.ndarray, pd.DataFrame]":
    """Return the rows in a column of lists of structs, behind the places of the lists that they are of.

    Lists within structs become arrays.
    """
    import pandas as pd

    lists = column.combine_chunks()
    owners = np.repeat(np.arange(len(lists)), np.diff(list_offsets(lists).to_numpy()))
    rows = list_flatten(lists)
    fields = {field.name: struct_field(rows, [place]) for place, field in enumerate(rows.type.fields)}
    return owners, pd.DataFrame({name: _column(values) for name, values in fields.items()})


def _column(values: Array) -> "pd.Series[Any]":
    import pandas as pd

    if DataType.is_list(values.type):
        numbers, ends = _column(list_flatten(values)).to_numpy(), list_offsets(values).to_numpy()[1:-1]
        return pd.Series(np.split(numbers, ends) if len(values) else [], dtype=object)
    if DataType.is_numeric(values.type) and not values.null_count:
        return pd.Series(values.to_numpy())
    return _series(values.to_pylist(), values.type)


def _series(values: Sequence[Any], kind: DataType) -> "pd.Series[Any]":
    """Return values, None where Arrow has null, as a column of the type that fits them and their type in Arrow."""
    import pandas as pd

    is_whole = None not in values
    if DataType.is_numeric(kind):
        return pd.Series(values, dtype="int64" if is_whole and DataType.is_integer(kind) else "float64")
    if DataType.is_boolean(kind) and is_whole:
        return pd.Series(values, dtype=bool)
    is_text = DataType.is_string(kind) or DataType.is_large_string(kind)
    return pd.Series(values, dtype=pd.Series(["text"]).dtype if is_text else object)
