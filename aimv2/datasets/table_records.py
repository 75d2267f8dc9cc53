"""Records that are the rows of an Arrow table. Letters: N rows, B rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aimv2.base import address
from aimv2.datasets.description import Location
from aimv2.datasets.index_folder import PARTS, index_path, read_facts, read_parts
from aimv2.datasets.records import MAX_BLOCK_ROWS, DataPart, OnProgress, Records, reopened
from aimv2.datasets.stamps import Stamp

HASHES = "key_hashes.npy"
KEY, STAMPS = "key", "stamps"  # facts of an index: the column of keys, and the stamps of the files of the table
KEYS = ("key", "__key__", "id")
CHUNK = 2**16


class TableRecords(Records):
    """Rows of a table, mapped into memory; a field is a column.

    The value of a ``ClassLabel`` is the name of its class. Blocks are large, because the order of rows is often that of
    classes.
    """

    def __init__(self, location: Location, table: pa.Table, classes: dict[str, list[str]]) -> None:
        """Open the index of a table.

        Args:
            classes: names of classes by column.

        Raises:
            UsageError: as in ``RecordsReader``.
        """
        facts = read_facts(location)
        self._location, self._table, self._classes = location, table, classes
        self._parts = read_parts(index_path(location) / PARTS)
        self._stamps = [Stamp(*values) for values in facts[STAMPS]]
        self._key: pa.ChunkedArray | None = table[facts[KEY]] if facts[KEY] else None
        self._hash_N = np.load(index_path(location) / HASHES, mmap_mode="r", allow_pickle=False)
        self.block_rows = min(len(self), MAX_BLOCK_ROWS)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (type(self), self._location, {}, self.digest())

    def __len__(self) -> int:
        return len(self._hash_N)

    def key(self, row: int) -> str:
        return str(row if self._key is None else self._key[row].as_py())

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._hash_N[row_B])

    def field(self, row: int, name: str) -> Any:
        if name not in self._table.column_names:
            return None
        value = self._value(row, name)
        if name in self._classes and value is not None:
            return self._classes[name][value] if value >= 0 else None  # -1: an unlabelled sample
        return value

    def fields(self) -> list[str]:
        return list(self._table.column_names)

    def parts(self) -> list[DataPart]:
        return self._parts

    def _value(self, row: int, name: str) -> Any:
        """Return the value of a column."""
        return self._table[name][row].as_py()


def write_keys(index: Path, table: pa.Table, on_progress: OnProgress) -> str | None:
    """Write the hashes of the keys, and return their column: the first of KEYS with unique values.

    Without one, keys are the numbers of the rows.
    """
    key, hash_N = _keys(table, on_progress)
    np.save(index / HASHES, hash_N, allow_pickle=False)
    return key


def _keys(table: pa.Table, on_progress: OnProgress) -> tuple[str | None, np.ndarray]:
    """Return the column of unique keys, None for the numbers of the rows, and the hashes: uint64 [N]."""
    for name in KEYS:
        if name in table.column_names and not table[name].null_count:
            values = (
                value for batch in table.select([name]).to_batches(CHUNK) for value in batch.column(0).to_pylist()
            )
            hash_N = _hashes(values, table.num_rows, on_progress)
            if len(np.unique(hash_N)) == table.num_rows:
                return name, hash_N
    return None, _hashes(range(table.num_rows), table.num_rows, on_progress)


def note_of(key: str | None) -> tuple[str, ...]:
    """Return a sentence on keys that are the numbers of rows; none if they are a column."""
    rows = f"no column of {', '.join(KEYS)} has unique values, so keys are the numbers of the rows"
    return () if key else (rows,)


def _hashes(values: Any, num_rows: int, on_progress: OnProgress) -> np.ndarray:
    hash_N = np.empty(num_rows, np.uint64)
    for row, value in enumerate(values):
        hash_N[row] = address.hash64(str(value))
        if row % CHUNK == CHUNK - 1 or row == num_rows - 1:
            on_progress(row + 1, num_rows)
    return hash_N
