"""Tables with the bytes of images: Parquet files, and datasets that the package datasets saved to disk.

A row of Parquet cannot be read without its row group, of up to thousands of images, so images are copied to the index.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError
from aimv2.datasets.description import IMAGES, Location
from aimv2.datasets.folder_layout import has_bytes, is_within, sha256_of
from aimv2.datasets.index import (
    COPY,
    IMAGE,
    Content,
    DataPart,
    Index,
    IndexedFile,
    IndexWriter,
    OnProgress,
    Record,
    Stamp,
    base_path,
    hash_key,
    stamp_at,
)
from aimv2.datasets.remote import expand, is_url

NAMES = (IMAGE, *IMAGES)  # of columns with images
KEYS = ("key", "__key__", "id")
BATCH = 256  # rows of Parquet that are read at a time
ABOUT = ("dataset_info.json", "state.json")  # files of a dataset that say what its columns are


def write_tables(location: Location, writer: IndexWriter, workers: int, on_progress: OnProgress) -> None:
    """Write the rows of tables. The key is the first of ``KEYS`` with unique values, else the number of the row."""
    files = table_files(location)
    tables = [file for file in files if file.name not in ABOUT]
    images = {file: image_column(location, schema_of(file), file) for file in tables}
    num_rows = sum(len(batch) for file in tables for batch in batches(file, []))
    if not num_rows:
        raise UsageError(f"{location.place}: there are no rows in {', '.join(map(str, files))}")
    key = _key_column(tables, num_rows)
    if key is None:
        writer.notes.append(f"no column of {', '.join(KEYS)} has unique values, so keys are the numbers of the rows")
    copy, num_images = writer.add_file(IndexedFile(COPY, Stamp(0, 0, 0))), 0
    with (writer.folder / COPY).open("wb") as target:
        for file in files:
            stamp, first, name = stamp_at(file), writer.num_samples, _name(location, file)
            digest, classes = sha256_of(file, stamp), classes_of(file)
            writer.add_file(IndexedFile(name, stamp, checksum=digest))
            for batch in batches(file) if file in images else ():
                contents = list[dict[str, Content]]()
                for content in bytes_of(batch.column(images[file])).to_pylist():
                    place = Content(copy, target.tell(), len(content or b""), zlib.crc32(content or b""))
                    contents.append({IMAGE: place} if content else {})
                    target.write(content or b"")
                num_images += sum(map(bool, contents))
                rows = _fields(batch, classes)
                keys = [str(number if key is None else row[key]) for number, row in enumerate(rows, writer.num_samples)]
                writer.add(map(Record, keys, contents, rows))
                on_progress(writer.num_samples, num_rows)
            writer.parts.append(DataPart(name, writer.num_samples - first, stamp.size, digest))
        if not num_images:
            raise UsageError(f"{location.place}: no row has the bytes of an image; save them, as to_parquet does")
        writer.notes.append(f"images that were copied to the index: {target.tell() / 1e6:,.1f} MB")


def table_stamps(location: Location, index: Index) -> dict[str, Stamp]:
    return {_name(location, file): stamp_at(file) for file in table_files(location)}


def table_files(location: Location) -> list[Path]:
    """Return the Parquet files of a location, or the Arrow files of a dataset and those about it."""
    if location.dataset:
        return dataset_files(Path(location.dataset))
    names = expand(location.parquet, "parquet")
    if remote := next(filter(is_url, names), None):
        raise UsageError(f"parquet: {remote} is remote; download the files, whose images are copied to the index")
    return list(map(Path, names))


def dataset_files(folder: Path) -> list[Path]:
    try:
        if (splits := folder / "dataset_dict.json").is_file():
            names = json.loads(splits.read_text())["splits"]
            raise UsageError(
                f"dataset: {folder} has the splits {', '.join(names)}; name one, such as {folder}/{names[0]}"
            )
        state = json.loads((folder / "state.json").read_text())
        tables = [folder / str(file["filename"]) for file in state["_data_files"]]
        if state.get("_indices_files") or state.get("_indices_data_files"):
            raise UsageError(f"dataset: {folder} selects rows by an index; save the result of flatten_indices()")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(f"dataset: {folder} is not what datasets.Dataset.save_to_disk writes ({error})") from error
    if outside := next(
        (file for file in tables if not is_within(os.path.realpath(folder), os.path.abspath(file))), None
    ):
        raise UsageError(f"dataset: {outside} is not in {folder}")
    return [*tables, *(file for name in ABOUT if (file := folder / name).is_file())]


def _name(location: Location, file: Path) -> str:
    """Return the path of a file from the base of the location, as its part in the index is named."""
    return str(file.relative_to(location.dataset)) if location.dataset else str(file).removeprefix(base_path(location))


def schema_of(file: Path) -> pa.Schema:
    try:
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as mapped:
                return pa.ipc.open_stream(mapped).schema
        return pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def classes_of(file: Path) -> dict[str, list[str]]:
    """Return the names of classes by column, which the package datasets writes beside Arrow and into Parquet files."""
    try:
        if file.suffix == ".arrow":
            features = json.loads((file.parent / ABOUT[0]).read_text())["features"]
        else:
            features = json.loads((schema_of(file).metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def image_column(location: Location, schema: pa.Schema, file: Path) -> str:
    """Return the column of images: that of the description, ``image``, or that of img2dataset."""
    wanted = (location.image,) if location.image else NAMES
    name = next((name for name in wanted if name in schema.names), None)
    if name is None or not is_image(schema.field(name).type):
        what = "has no column" if name is None else f"has {schema.field(name).type} in the column"
        raise UsageError(
            f"{location.place}: {file} {what} {' or '.join(wanted) if name is None else name} with the bytes of"
            f" images; set image to one of {', '.join(schema.names)}"
        )
    return name


def is_image(kind: pa.DataType) -> bool:
    """True for a column of bytes, as such or in a struct; and for one without values, which says nothing else."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind))


def bytes_of(column: pa.Array) -> pa.Array:
    """Return the bytes of images; those of a column of structs are in a field, beside the path."""
    return pa.compute.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def batches(file: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a table; ``columns`` limits those that are read of a Parquet file."""
    try:
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as mapped:
                yield from pa.ipc.open_stream(mapped)
        else:
            with pq.ParquetFile(file) as opened:
                yield from opened.iter_batches(BATCH, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def _key_column(tables: list[Path], num_rows: int) -> str | None:
    for name in KEYS:
        if all(name in schema_of(file).names for file in tables):
            columns = (batch.column(name).to_pylist() for file in tables for batch in batches(file, [name]))
            hashes = [hash_key(str(value)) for values in columns for value in values if value is not None]
            if len(hashes) == num_rows == len(np.unique(np.array(hashes, np.uint64))):
                return name
    return None


def rows_of(file: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a table in batches, without what has bytes."""
    names = [field.name for field in schema_of(file) if not has_bytes(field.type)]
    classes = classes_of(file)
    for batch in batches(file, names):
        yield _fields(batch, classes)


def _fields(batch: pa.RecordBatch, classes: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return the fields of rows, without bytes, and with the names of classes in place of their numbers."""
    rows: list[dict[str, Any]] = batch.select(
        [field.name for field in batch.schema if not has_bytes(field.type)]
    ).to_pylist()
    for row in rows:
        for name in classes.keys() & row.keys():
            label = row[name]
            row[name] = None if label is None or label < 0 else classes[name][label]  # -1: an unlabelled sample
    return rows
