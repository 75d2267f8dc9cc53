"""Folders of images, with files beside them or a table that names them.

Another layout of images in files is one more function that yields rows: a key, the path of an image, and fields.
"""

import hashlib
import itertools
import json
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError
from aimv2.base.processes import in_processes
from aimv2.datasets.description import IMAGES, Location
from aimv2.datasets.index import (
    IMAGE,
    MAX_CONTENT,
    MISSING,
    Content,
    DataPart,
    Index,
    IndexedFile,
    IndexWriter,
    OnProgress,
    Record,
    Stamp,
    known_indexes,
    stamp_at,
    stamp_of,
)
from aimv2.datasets.remote import Patience

OTHER_IMAGES = ("avif", "bmp", "gif", "heic", "jxl", "tif", "tiff")  # formats that are not decoded
CHUNK = 1 << 20  # bytes that are read at a time
GROUP = 128  # files that a process reads at a time
BATCH = 2**14  # rows of a table that are read at a time
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = ".parquet"
SUFFIXES = (*DELIMITERS, *JSON_LINES, PARQUET)


class Row(NamedTuple):
    """A sample of a folder: its key, the path of its image within the folder, and its fields."""

    key: str
    path: str
    fields: Mapping[str, Any] | None = None


def write_folder(location: Location, writer: IndexWriter, workers: int, on_progress: OnProgress) -> None:
    """Write the samples of a folder. Images and files beside them are read once, for their checksums."""
    root = _root(location)
    beside: dict[str, dict[str, str]] = {}
    if location.table:
        table = Path(location.table)
        if (stamp := stamp_at(table)) == MISSING:
            raise UsageError(f"table: {table} is no file that can be read")
        paths = _table_paths(location, root)
        if not paths:
            raise UsageError(f"table: {location.table} has no rows")
        # In the order of folders and of names in them, of which the checksum of the content is made.
        stamps = {
            path: stamp_within(root, path)
            for path in sorted(paths, key=lambda path: (path[: path.rfind("/") + 1], path))
        }
        if num_missing := sum(stamps[path] == MISSING for path in paths):
            writer.notes.append(f"{num_missing} of {len(paths)} images of the table are missing in {location.folder}")
        rows: Iterable[Row] = table_rows(location)
        writer.facts["tables"] = [stamp]
        writer.parts.append(DataPart(f"table {table.name}", len(paths), stamp.size, sha256_of(table, stamp)))
    else:
        listing = list_folder(root, _extensions(location))
        stamps, beside, paths = listing.stamps, listing.beside, sorted(listing.images)
        writer.notes += _left_out(location, listing)
        if not paths:
            wanted = ", ".join(_extensions(location))
            raise UsageError("; ".join([f"folder: {location.folder} has no images ({wanted})", *writer.notes]))
        rows = (Row(path, path) for path in paths)
    contents = _write_files(location, writer, root, stamps, workers, on_progress)

    def record(row: Row) -> Record:
        texts = {name: contents[path] for name, path in beside.get(_stem(row.path), {}).items()}
        texts = {name: content for name, content in texts.items() if content.length <= MAX_CONTENT}
        return Record(row.key, {IMAGE: contents[row.path], **texts}, row.fields)

    writer.add(map(record, rows))
    writer.parts += _parts(stamps, contents, paths)
    on_progress(writer.num_samples, writer.num_samples)


def folder_stamps(location: Location, index: Index) -> dict[str, Stamp]:
    """Return the stamps of a folder's files now; with a table those of the images that it names."""
    root = _root(location)
    if not location.table:
        return list_folder(root, _extensions(location)).stamps
    stamps = {name: stamp_within(root, name) for name in index.files["name"].to_pylist()}
    return {name: stamp for name, stamp in stamps.items() if stamp != MISSING}


class FolderListing(NamedTuple):
    """The files of a folder that belong to samples: images, and files beside them with the same stem."""

    stamps: dict[str, Stamp]  # by path within the folder, in the order of folders and names
    images: set[str]  # paths
    beside: dict[str, dict[str, str]]  # files by the path of an image without its extension, and by their extensions
    num_outside: int  # links that lead out of the folder or to a folder, which are not followed
    others: Counter[str]  # numbers of files in formats of images that are not read, by extension


def list_folder(root: str, extensions: Sequence[str] = IMAGES) -> FolderListing:
    """List a folder, a real path, and its subfolders. Hidden names and those that end in ``~`` are left out."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"folder: {error.filename} cannot be read: {error.strerror}") from error

    listing = FolderListing({}, set(), {}, 0, Counter())
    num_outside, suffixes = 0, tuple(f".{extension.lower()}" for extension in extensions)
    for parent, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        num_outside += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        folder = "" if parent == root else f"{os.path.relpath(parent, root)}/"
        stamps = dict[str, Stamp]()
        for name in sorted(name for name in names if not name.startswith(".") and not name.endswith("~")):
            if not is_within(root, os.path.join(parent, name)):
                num_outside += 1
            elif (stamp := stamp_within(root, folder + name)) != MISSING:
                stamps[name] = stamp
            listing.others.update(end for end in [name.lower().rpartition(".")[2]] if end in OTHER_IMAGES)
        images = {name for name in stamps if name.lower().endswith(suffixes)}
        listing.beside.update((folder + _stem(name), {}) for name in sorted(images))
        for name, stamp in stamps.items():
            # The divisions of a name at its dots: a, b.txt and a.b, txt of a.b.txt.
            divisions = [(folder + name[:at], name[at + 1 :]) for at, sign in enumerate(name) if sign == "."]
            stems = [(stem, member) for stem, member in divisions if stem in listing.beside]
            if name not in images and not stems:
                continue
            if not is_utf8(folder + name):
                raise UsageError(f"the name of {folder + name!r} is not UTF-8; rename it")
            listing.stamps[folder + name] = stamp
            if name in images:
                listing.images.add(folder + name)
            else:
                for stem, member in stems:
                    listing.beside[stem].setdefault(member.lower(), folder + name)
    return listing._replace(num_outside=num_outside)


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def stamp_within(root: str, path: str) -> Stamp:
    """Return the stamp of a regular file in a folder; MISSING if there is none, or if it is elsewhere."""
    file = os.path.join(root, path)
    try:
        status = os.stat(file)
    except OSError:  # also of a link that leads to itself
        return MISSING
    return stamp_of(status) if stat.S_ISREG(status.st_mode) and is_within(root, file) else MISSING


def is_within(root: str, file: str) -> bool:
    """True if a file is in a folder once links are followed; ``root`` is a real path."""
    parent, name = os.path.split(file)
    is_link = name in ("", ".", "..") or os.path.islink(file)
    real = os.path.realpath(file) if is_link else f"{_real(parent)}/"
    return real.startswith(root.rstrip("/") + "/")


@lru_cache(maxsize=4096)  # to follow all links of a path takes as long as to read a small file
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def is_utf8(text: str) -> bool:
    """False for text with half a character, as of names of files in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_files(
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


def checksums(
    root: str, stamps: Mapping[str, Stamp], workers: int, on_progress: OnProgress
) -> Iterator[tuple[str, str]]:
    """Yield the paths of files and their CRC-32, read by several processes; the files must still have their stamps."""
    items, num_read = list(stamps.items()), 0
    groups = [items[start : start + GROUP] for start in range(0, len(items), GROUP)]
    for group in in_processes(partial(_read_files, root), groups, min(workers, len(groups)), "reads files"):
        yield from group
        num_read += len(group)
        on_progress(num_read, len(items))


def _read_files(root: str, files: Sequence[tuple[str, Stamp]]) -> list[tuple[str, str]]:
    return [(path, _checksum(os.path.join(root, path), stamp)) for path, stamp in files]


def _checksum(file: str, stamp: Stamp) -> str:
    def read() -> tuple[int, Stamp]:
        checksum = 0
        with open(file, "rb", buffering=0) as opened:
            while content := opened.read(CHUNK):
                checksum = zlib.crc32(content, checksum)
            return checksum, stamp_of(os.fstat(opened.fileno()))

    try:
        checksum, now = Patience().read(read)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    _require_unchanged(file, stamp, now)
    return f"{checksum:08x}"


def sha256_of(file: Path, stamp: Stamp) -> str:
    """Return the SHA-256 of a file, which must still have its stamp."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        _require_unchanged(str(file), stamp, stamp_of(os.fstat(opened.fileno())))
    return digest


def _require_unchanged(file: str, before: Stamp, now: Stamp) -> None:
    if now != before:
        raise UsageError(f"{file} changed while it was indexed; index again when it is complete")


def _parts(stamps: Mapping[str, Stamp], contents: Mapping[str, Content], paths: Iterable[str]) -> list[DataPart]:
    """Return a part for each subfolder; its checksum is of the content, without times, so a copy has the same one."""
    num_samples = Counter(map(_subfolder, paths))
    hashes = {name: hashlib.sha256() for name in sorted(num_samples)}
    sizes = Counter[str]()
    for path, stamp in stamps.items():
        if stamp != MISSING:
            name = _subfolder(path)
            hashes[name].update(f"{path}\0{stamp.size}\0{contents[path].checksum:08x}\n".encode())
            sizes[name] += stamp.size
    return [DataPart(name, num_samples[name], sizes[name], each.hexdigest()) for name, each in hashes.items()]


def _subfolder(path: str) -> str:
    return path.partition("/")[0] if "/" in path else "."


def _root(location: Location) -> str:
    folder = Path(location.folder or "")
    if not folder.is_dir():
        raise UsageError(f"folder: {folder} is no folder that can be read")
    return os.path.realpath(folder)


def _extensions(location: Location) -> tuple[str, ...]:
    return (location.image,) if location.image else IMAGES


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
    table, root, name = Path(location.table or ""), _root(location), location.image or IMAGE
    first = 1
    for fields in read_rows(table):
        if not any(name in row for row in fields):
            columns = ", ".join(dict.fromkeys(column for row in fields for column in row))
            has = f"; it has {columns}" if columns else ""
            inside = "; images inside a table are packed into shards (docs/data.md)" if table.suffix == PARQUET else ""
            raise UsageError(f"table: {table} has no column {name!r} with the paths of images{has}{inside}")
        has_key = any("key" in row for row in fields)
        for number, row in enumerate(fields, first):
            path = _path(row.get(name), location, root, f"row {number} of {table}")
            key = str(row.get("key")) if has_key else path
            if not is_utf8(key):
                raise UsageError(f"row {number} of {table} has a key that is no valid text: {key!r}")
            yield Row(key, path, row)
        first += len(fields)


def _path(value: object, location: Location, root: str, where: str) -> str:
    """Return the path of an image within the folder, in its shortest form."""
    path = PurePosixPath(value) if isinstance(value, str) and value and "\0" not in value else None
    if path is None or not is_utf8(str(path)):
        raise UsageError(f"{where} has no path of an image (got {value!r})")
    if path.is_absolute():
        path = PurePosixPath(_real(str(path.parent)), path.name)
        if not path.is_relative_to(root):
            raise UsageError(
                f"{where}: the path {value!r} is not in folder: {location.folder}; set folder to one that contains it"
            )
        path = path.relative_to(root)
    if ".." in path.parts:
        raise UsageError(f"{where}: the path {value!r} leaves the folder; paths have no ..")
    return str(path)


def read_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Read a table in batches. Columns of CSV and TSV are text; those of Parquet have its types, without bytes."""
    try:
        if path.suffix in DELIMITERS:
            for read in _delimited(path, DELIMITERS[path.suffix]):
                yield read.to_pylist()
        elif path.suffix in JSON_LINES:
            rows = _json_lines(path)
            while batch := list(itertools.islice(rows, BATCH)):
                yield batch
        elif path.suffix == PARQUET:
            with pq.ParquetFile(path) as file:
                names = [field.name for field in file.schema_arrow if not has_bytes(field.type)]
                for read in file.iter_batches(BATCH, columns=names):
                    yield read.to_pylist()
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


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                raise UsageError(f"table: line {number} of {path} is not JSON: {error}") from error
            if isinstance(row, dict):
                yield row
            elif line.strip():
                raise UsageError(f"table: line {number} of {path} must be a JSON object with the key of the image")
