"""Files of records that somebody else has written: their size and columns, before they are read. It needs pyarrow."""

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.analysis.evidence.records import ITEMS, KEY, TABLES
from aimv2.base.errors import UsageError, short, some

MAX_RUNS, MAX_VALUES, MAX_UNPACKED = 100_000, 2 * 10**7, 2**31  # of a file; values of a column; bytes of all

Scalar = Literal["text", "integer", "number", "flag"]
KINDS: Mapping[Scalar, Any] = {
    "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "integer": pa.types.is_integer,
    "number": lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
    "flag": pa.types.is_boolean,
}
COLUMNS: Mapping[str, Scalar] = {
    **dict.fromkeys(("arm", "run", "reason", "precision", "hardware", "code", "commit", "torch"), "text"),
    **dict.fromkeys(("seed", "samples", "train_flops", "threads", "encoder_parameters", "other_parameters"), "integer"),
    **dict.fromkeys(("train_pairs", "held_out_pairs"), "integer"),
    **dict.fromkeys(("train_seconds", "train_cpu_seconds", "seconds", "cpu_seconds"), "number"),
    "has_failed": "flag",
}
OF_PAIRS = ("encoder_parameters", "other_parameters", "train_pairs", "held_out_pairs")  # only AIMv2's runs have them


def run_names(packed: bytes, max_bytes: int, name: str) -> list[Any]:
    """Return what is in the column ``run`` of a file of records.

    Args:
        max_bytes: of the JSON in it.
        name: of the file, for the message of an error.

    Raises:
        UsageError: the file is too large or has columns of other kinds.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(packed))
        about, schema = file.metadata, file.schema_arrow
        groups = [about.row_group(number) for number in range(min(about.num_row_groups, MAX_RUNS))]
        values = max((group.column(i).num_values for group in groups for i in range(group.num_columns)), default=0)
        is_small = max(about.num_rows, about.num_row_groups) <= MAX_RUNS and values <= MAX_VALUES
        is_small &= len((about.metadata or {}).get(KEY, b"")) <= max_bytes
        if not is_small or sum(group.total_byte_size for group in groups) > MAX_UNPACKED:
            raise UsageError(
                f"{name} is too large for records: at most {MAX_RUNS:,} runs, {MAX_VALUES:,} values of a column and"
                f" {MAX_UNPACKED:,} bytes are read"
            )
        if lacking := [column for column in (*COLUMNS, "metrics") if column not in (*schema.names, *OF_PAIRS)]:
            raise UsageError(f"{name} lacks columns of records: {some(lacking)}")
        for column in schema:
            if not _is_right(column):
                raise UsageError(f"{name}: column {short(column.name)} is no column of records, or of another kind")
        return list(file.read(columns=["run"])["run"].to_pylist())
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name} is not a file of records") from error


def _is_right(column: pa.Field) -> bool:
    """True for a column of records of its kind, or without any value; tables are lists of rows of plain values, or of
    lists of numbers."""
    kind = column.type
    if column.name in COLUMNS:
        return pa.types.is_null(kind) or bool(KINDS[COLUMNS[column.name]](kind))
    if column.name not in (*TABLES, ITEMS) or not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    fields = [kind.value_type.field(number).type for number in range(kind.value_type.num_fields)]
    plain = [field.value_type if pa.types.is_list(field) else field for field in fields]
    return all(pa.types.is_null(field) or any(is_kind(field) for is_kind in KINDS.values()) for field in plain)
