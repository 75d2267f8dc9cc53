"""Tables of samples in CSV, TSV, JSON-lines and Parquet files, read in batches."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError

BATCH = 2**16
JSON_ROW = "json row"  # a row of JSON lines stays text: its columns need not have one type each
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*_DELIMITERS, *_JSON, ".parquet")


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Read a table. Columns of CSV and TSV are text; those of Parquet have its types, and bytes are left out.

    Rows of JSON lines come as one text column, ``JSON_ROW``.

    Raises:
        UsageError: the file is missing or broken, or its format is unknown.
    """
    try:
        if path.suffix in _DELIMITERS:
            yield from _delimited(path, _DELIMITERS[path.suffix])
        elif path.suffix in _JSON:
            yield from _json_lines(path)
        elif path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                names = [field.name for field in file.schema_arrow if not _is_bytes(field.type)]
                yield from file.iter_batches(BATCH, columns=names)
        else:
            raise UsageError(f"table: {path} must end in one of {', '.join(SUFFIXES)}")
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UsageError(f"table: {path} cannot be read: {error}") from error


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows as values by column."""
    if JSON_ROW in batch.schema.names:
        return [json.loads(row) for row in batch.column(JSON_ROW).to_pylist()]
    found: list[dict[str, Any]] = batch.to_pylist()
    return found


def column(batch: pa.RecordBatch, name: str) -> list[Any] | None:
    """Return the values of a column, None if the table has no such column."""
    if JSON_ROW in batch.schema.names:
        found = rows(batch)
        return [row.get(name) for row in found] if any(name in row for row in found) else None
    values: list[Any] | None = batch.column(name).to_pylist() if name in batch.schema.names else None
    return values


def _delimited(path: Path, delimiter: str) -> Iterator[pa.RecordBatch]:
    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa_csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    # Text only: a type guessed from the first rows fails on later ones, and would turn a label 007 into 7.
    convert = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
    )
    with pa_csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def _json_lines(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open(encoding="utf-8") as file:
        numbered = ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())
        while lines := list(itertools.islice(numbered, BATCH)):
            for number, line in lines:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"table: line {number} of {path} is not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise UsageError(f"table: line {number} of {path} must be a JSON object with the key of the image")
            yield pa.record_batch({JSON_ROW: pa.array([line for _, line in lines], pa.string())})


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
