"""Rows of Parquet files that hold images, as data sets on hubs and img2dataset write them.

A row of Parquet cannot be read without its row group, of up to thousands of images. So the rows are copied to the
index, as an Arrow file that is mapped into memory.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.index_folder import command, index_path, read_facts, write_facts, writing
from aimv2.datasets.records import DataPart, Indexed, OnProgress
from aimv2.datasets.shards.index import IMAGES
from aimv2.datasets.shards.patterns import base_of, expand, is_url
from aimv2.datasets.stamps import changes, digest, stamp_of
from aimv2.datasets.table_records import KEY, STAMPS, TableRecords, note_of, write_keys

TABLE = "table.arrow"
NAMES = ("image", *IMAGES)  # of columns with images
BATCH = 256  # rows that are copied at a time


class ParquetRecords(TableRecords):
    """Rows of Parquet files. The image column holds bytes, or what the feature ``Image`` of datasets stores."""

    @staticmethod
    def build(location: Location, workers: int, on_progress: OnProgress, *, verify: bool = False) -> Indexed:
        """Write the index of Parquet files, with a copy of their rows. All files are read.

        The key is the column ``key``, ``__key__`` or ``id`` if its values are unique, else the number of the row.

        Raises:
            UsageError: a file cannot be read, files have other columns than the first, or none is of images.
        """
        files = _files(location)
        stamps = [stamp_of(file.stat()) for file in files]
        with writing(location) as index:
            counts = _copy(location, files, index / TABLE, on_progress)
            table = _mapped(index / TABLE)
            if not table.num_rows:
                raise UsageError(f"parquet: there are no rows in {', '.join(location.parquet)}")
            key = write_keys(index, table, on_progress)
            parts = [
                DataPart(name, count, stamp.size, digest(file, stamp))
                for file, name, stamp, count in zip(files, _names(location, files), stamps, counts, strict=True)
            ]
            write_facts(index, location, table.num_rows, parts, **{KEY: key, STAMPS: stamps})
        size = (index_path(location) / TABLE).stat().st_size
        return Indexed(
            table.num_rows, (f"copied {len(files):,} files to the index: {size / 1e6:,.1f} MB", *note_of(key))
        )

    def __init__(self, location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> None:
        """Open the index (``RecordsReader``)."""
        read_facts(location)  # says what to do if there is no index
        table = _mapped(index_path(location) / TABLE)
        super().__init__(location, table, class_names(table.schema))
        self._image = _image_column(location, table.schema, index_path(location))
        self.check()

    def image(self, row: int) -> bytes:
        value = self._value(row, self._image)
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise BadSampleError("missing image", f"row {row}")
        return bytes(content)

    def check(self, *, every_file: bool = False) -> None:
        files = _files(self._location)
        before = {part.name: stamp for part, stamp in zip(self._parts, self._stamps, strict=True)}
        now = {name: stamp_of(file.stat()) for file, name in zip(files, _names(self._location, files), strict=True)}
        found = {
            "missing": [name for name in before if name not in now],
            "new": [name for name in now if name not in before],
            "changed": [name for name, stamp in now.items() if name in before and not stamp.is_same(before[name])],
        }
        if sentence := changes(found):
            raise UsageError(
                f"Parquet files are not as they were indexed ({sentence}); restore them, or run"
                f" {command(self._location)}"
            )


def _files(location: Location) -> list[Path]:
    names = expand(location.parquet, "parquet")
    if remote := next(filter(is_url, names), None):
        raise UsageError(f"parquet: {remote} is remote; download the files, whose rows are copied to the index")
    return list(map(Path, names))


def _names(location: Location, files: Sequence[Path]) -> list[str]:
    """Return the paths of files without what all patterns start with."""
    return [str(file).removeprefix(base_of(location.parquet)) for file in files]


def _copy(location: Location, files: Sequence[Path], path: Path, on_progress: OnProgress) -> list[int]:
    """Copy the rows of Parquet files to an Arrow file; return their numbers."""
    schemas = [_opened(file).schema_arrow for file in files]
    for file, schema in zip(files, schemas, strict=True):
        _image_column(location, schema, file)
        if class_names(schema) != class_names(schemas[0]):
            raise UsageError(f"parquet: {file} has other names of classes than {files[0]}")
    try:
        joined = pa.unify_schemas([_decoded(schema) for schema in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise UsageError(f"parquet: the files have a column of different types: {error}") from error
    counts, num_rows = list[int](), sum(_opened(file).metadata.num_rows for file in files)
    with pa.ipc.new_file(str(path), joined.with_metadata(schemas[0].metadata)) as writer:
        for file in files:
            done = number = sum(counts)
            for batch in _batches(file):
                writer.write_batch(_in_columns(batch, joined))
                number += len(batch)
                on_progress(number, num_rows)
            counts.append(number - done)
    return counts


def _decoded(schema: pa.Schema) -> pa.Schema:
    """Return the columns with values in the place of dictionaries, which may differ between batches."""
    return pa.schema(
        [field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema]
    )


def _in_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows in the columns of all files; those that their own file lacks are null."""
    columns = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.record_batch(columns, schema=schema)


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"parquet: {file} cannot be read: {error}") from error


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from _opened(file).iter_batches(BATCH)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"parquet: {file} cannot be read: {error}") from error


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _image_column(location: Location, schema: pa.Schema, file: Path) -> str:
    """Return the column of images: that of the description, ``image``, or that of img2dataset.

    Args:
        file: that has the columns, for the message.

    Raises:
        UsageError: there is none.
    """
    wanted = (location.image,) if location.image else NAMES
    found = next((name for name in wanted if name in schema.names), None)
    if found is None or not is_image(schema.field(found).type):
        what = "has no column" if found is None else f"has {schema.field(found).type} in the column"
        raise UsageError(
            f"parquet: {file} {what} {' or '.join(wanted) if found is None else found} with the bytes of"
            f" images; set image to one of {', '.join(schema.names)}"
        )
    return found


def is_image(kind: pa.DataType) -> bool:
    """True for a column of bytes, as such or in a struct; and for one without values, which says nothing else."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind))


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of classes by column, which the package datasets writes into the metadata of a file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
