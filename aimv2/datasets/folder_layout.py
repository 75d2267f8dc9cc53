"""Folders of images, with files beside them or a table that names them.

Another layout of images in files is one more function that yields rows: a key, the path of an image, and fields.
"""

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.files import (
    IMAGES,
    MISSING,
    FolderListing,
    Stamp,
    checksums,
    is_utf8,
    is_within,
    list_folder,
    sha256_of,
    splits,
    stamp_at,
)
from aimv2.datasets.index import (
    IMAGE,
    MAX_CONTENT,
    Content,
    DataPart,
    Index,
    IndexedFile,
    IndexWriter,
    OnProgress,
    Record,
    known_indexes,
)

BATCH = 2**14  # rows of a table that are read at a time
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*DELIMITERS, *JSON_LINES, ".parquet")


class Row(NamedTuple):
    """A sample of a folder: its key, the path of its image within the folder, and its fields."""

    key: str
    path: str
    fields: Mapping[str, Any] | None = None


def write_folder(location: Location, writer: IndexWriter, workers: int, on_progress: OnProgress) -> None:
    """Write the samples of a folder. Images and files beside them are read once, for their checksums."""
    root = _root(location)
    if location.table:
        table = Path(location.table)
        stamp = _table_stamp(table)
        paths = _table_paths(location, root)
        listing = list_folder(root, named=paths)
        num_missing = sum(path not in listing.images for path in paths)
        if num_missing:
            writer.notes.append(f"{num_missing} of {len(paths)} images of the table are missing in {location.folder}")
        if not paths:
            raise UsageError(f"table: {location.table} has no rows")
        rows: Iterable[Row] = table_rows(location)
        writer.parts.append(DataPart(f"table {table.name}", len(paths), stamp.size, sha256_of(table, stamp)))
    else:
        listing = list_folder(root, _extensions(location))
        paths = sorted(listing.images)
        writer.notes += _left_out(location, listing)
        if not paths:
            wanted = ", ".join(_extensions(location))
            raise UsageError("; ".join([f"folder: {location.folder} has no images ({wanted})", *writer.notes]))
        rows = (Row(path, path) for path in paths)
    stamps = listing.stamps | {path: MISSING for path in paths if path not in listing.stamps}
    contents = write_files(location, writer, root, stamps, workers, on_progress)
    beside = _beside(listing)
    writer.add(
        Record(row.key, {IMAGE: contents[row.path], **_texts(row.path, beside, contents)}, row.fields) for row in rows
    )
    writer.parts += _parts(listing.stamps, contents, paths)
    on_progress(writer.num_samples, writer.num_samples)


def table_of(location: Location) -> list[Path]:
    """Return the table of a folder, if it has one."""
    return [Path(location.table)] if location.table else []


def folder_stamps(location: Location, index: Index) -> dict[str, Stamp]:
    """Return the stamps of a folder's files now."""
    named = index.files["name"].to_pylist() if location.table else None
    return list_folder(_root(location), _extensions(location), named).stamps


def write_files(
    location: Location,
    writer: IndexWriter,
    root: str,
    stamps: Mapping[str, Stamp],
    workers: int,
    on_progress: OnProgress,
) -> dict[str, Content]:
    """Write files into an index, and return the content of each; those with known stamps are not read again.

    If the reading fails or is interrupted, what was read is written nevertheless, for an unfinished index.
    """
    sums: dict[str, str] = {}
    for index in known_indexes(location):
        sums |= {
            file.name: file.checksum
            for file in index.read_files()
            if file.stamp == stamps.get(file.name) and file.stamp != MISSING
        }
    unread = {path: stamp for path, stamp in stamps.items() if path not in sums and stamp != MISSING}
    num_known, contents = len(sums), dict[str, Content]()
    try:
        sums.update(checksums(root, unread, workers, on_progress))
    finally:
        writer.num_read += len(sums) - num_known
        for path, stamp in stamps.items():
            if path in sums or stamp == MISSING:
                number = writer.add_file(IndexedFile(path, stamp, checksum=sums.get(path, "")))
                contents[path] = Content(number, 0, max(stamp.size, 0), int(sums.get(path, "0"), 16))
    writer.notes.append(f"read {writer.num_read:,} files")
    if num_known:
        writer.notes.append(f"not read again, because size and times have not changed: {num_known:,} files")
    return contents


def _parts(stamps: Mapping[str, Stamp], contents: Mapping[str, Content], paths: Iterable[str]) -> list[DataPart]:
    """Return a part for each subfolder; its checksum is of the content, without times, so a copy has the same one."""
    num_samples = Counter(map(_subfolder, paths))
    hashes = {name: hashlib.sha256() for name in sorted(num_samples)}
    sizes = Counter[str]()
    for path, stamp in stamps.items():
        name = _subfolder(path)
        hashes[name].update(f"{path}\0{stamp.size}\0{contents[path].checksum:08x}\n".encode())
        sizes[name] += stamp.size
    return [DataPart(name, num_samples[name], sizes[name], each.hexdigest()) for name, each in hashes.items()]


def _root(location: Location) -> str:
    folder = Path(location.folder or "")
    if not folder.is_dir():
        raise UsageError(f"folder: {folder} is no folder that can be read")
    return os.path.realpath(folder)


def _extensions(location: Location) -> tuple[str, ...]:
    return (location.image,) if location.image and not location.table else IMAGES


def _left_out(location: Location, listing: FolderListing) -> list[str]:
    """Return sentences on what looks like an image and is none of the samples."""
    notes = []
    if listing.num_outside:
        why = f"because they lead out of {location.folder} or to a folder; copy what they lead to with cp -rL"
        notes.append(f"{listing.num_outside} links were not followed, {why}")
    if listing.others:
        counts = ", ".join(f"{count:,} {extension}" for extension, count in listing.others.most_common())
        notes.append(f"files left out, because they are none of {', '.join(_extensions(location))}: {counts}")
    return notes


def _beside(listing: FolderListing) -> dict[str, dict[str, str]]:
    """Return the paths of files beside images, by the path of the image without its extension, and by their names."""
    beside: dict[str, dict[str, str]] = {image.rpartition(".")[0]: {} for image in sorted(listing.images)}
    for path in listing.stamps:
        folder, slash, name = path.rpartition("/")
        if path not in listing.images:
            for stem, member in splits(name):
                if (files := beside.get(folder + slash + stem)) is not None:
                    files.setdefault(member.lower(), path)
    return beside


def _texts(image: str, beside: Mapping[str, Mapping[str, str]], contents: Mapping[str, Content]) -> dict[str, Content]:
    files = beside.get(image.rpartition(".")[0], {})
    return {name: contents[path] for name, path in files.items() if contents[path].length <= MAX_CONTENT}


def _subfolder(path: str) -> str:
    return path.partition("/")[0] if "/" in path else "."


def _table_stamp(table: Path) -> Stamp:
    if (stamp := stamp_at(table)) == MISSING:
        raise UsageError(f"table: {table} is no file that can be read")
    return stamp


def _table_paths(location: Location, root: str) -> list[str]:
    """Return the path of each row's image."""
    paths, numbers = list[str](), dict[str, int]()
    for number, row in enumerate(table_rows(location), 1):
        file = os.path.join(root, row.path)
        if os.path.lexists(file) and not is_within(root, file):
            raise UsageError(f"row {number} of {location.table}: {row.path} is a link that leads out of the folder")
        if (before := numbers.setdefault(row.key, number)) != number:
            raise UsageError(
                f"rows {before} and {number} of {location.table} have the same key {row.key!r}; "
                "give each row a unique value in a column named key"
            )
        paths.append(row.path)
    return paths


def table_rows(location: Location) -> Iterator[Row]:
    """Yield the rows of a table; errors as those of ``write_folder``."""
    table, folder, name = Path(location.table or ""), Path(location.folder or ""), location.image or IMAGE
    first = 1
    for fields in read_rows(table):
        if not any(name in row for row in fields):
            columns = dict.fromkeys(column for row in fields for column in row)
            has = f"; it has {', '.join(columns)}" if columns else ""
            raise UsageError(f"table: {table} has no column {name!r} with the paths of images{has}")
        has_key = any("key" in row for row in fields)
        for number, row in enumerate(fields, first):
            path = _path(row.get(name), folder, f"row {number} of {table}")
            key = str(row.get("key")) if has_key else path
            if not is_utf8(key):
                raise UsageError(f"row {number} of {table} has a key that is no valid text: {key!r}")
            yield Row(key, path, row)
        first += len(fields)


def _path(value: object, folder: Path, where: str) -> str:
    """Return the path of an image within the folder, in its shortest form."""
    path = PurePosixPath(value) if isinstance(value, str) and value and "\0" not in value else None
    if path is None or not is_utf8(str(path)):
        raise UsageError(f"{where} has no path of an image (got {value!r})")
    if path.is_absolute():
        within = _below(path, folder)
        if within is None:
            raise UsageError(
                f"{where}: the path {value!r} is not in folder: {folder}; set folder to one that contains it"
            )
        path = within
    if ".." in path.parts:
        raise UsageError(f"{where}: the path {value!r} leaves the folder; paths have no ..")
    return str(path)


def _below(path: PurePosixPath, folder: Path) -> PurePosixPath | None:
    """Return an absolute path within a folder, also if links lead to one of them; None if it is elsewhere."""
    real = PurePosixPath(os.path.realpath(path.parent), path.name)
    bases = (PurePosixPath(os.path.normpath(folder)), PurePosixPath(os.path.realpath(folder)))
    return next((each.relative_to(base) for each in (path, real) for base in bases if each.is_relative_to(base)), None)


def read_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Read a table in batches. Columns of CSV and TSV are text; those of Parquet have its types, without bytes."""
    try:
        if path.suffix in DELIMITERS:
            for batch in _delimited(path, DELIMITERS[path.suffix]):
                yield batch.to_pylist()
        elif path.suffix in JSON_LINES:
            yield from _json_lines(path)
        elif path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                names = [field.name for field in file.schema_arrow if not has_bytes(field.type)]
                for batch in file.iter_batches(BATCH, columns=names):
                    yield batch.to_pylist()
        else:
            raise UsageError(f"table: {path} must end in one of {', '.join(SUFFIXES)}")
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UsageError(f"table: {path} cannot be read: {error}") from error


def has_bytes(kind: pa.DataType) -> bool:
    """True for bytes, and for what contains some; these are no fields."""
    if pa.types.is_nested(kind):
        return any(has_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


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


def _json_lines(path: Path) -> Iterator[list[dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        numbered = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        while lines := list(itertools.islice(numbered, BATCH)):
            yield [_json_line(line, f"table: line {number} of {path}") for number, line in lines]


def _json_line(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} must be a JSON object with the key of the image")
    return row
