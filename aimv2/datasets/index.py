"""The index of a location: where each sample's image and texts are, in one format for all layouts.

An index is a folder, written completely or not at all, and read only for the location that it was made for:

- ``files.arrow``: a row for each file with content: name, size, times or version, and checksum;
- ``records.arrow``: a row for each sample: its key, its contents (a name, a range of a file, and a checksum for each),
  and its other fields as a JSON object. Batches have ``ROWS`` rows, so that a row is found without reading others;
- ``hashes.bin``: ``address.hash64`` of the keys;
- ``parts.parquet``: names, sizes and checksums of the parts that can change on their own;
- ``index.json``: what the index was made for.

Letters: N samples, B rows of a batch, P parts.
"""

import contextlib
import dataclasses
import itertools
import json
import operator
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.address import hash64
from aimv2.base.errors import UsageError
from aimv2.base.files import beside, replace_folder, replacing
from aimv2.config.arguments import as_typed
from aimv2.config.data_config import DESCRIPTIONS
from aimv2.datasets.description import INDEX_SUFFIX, SPLITS, Location
from aimv2.datasets.remote import base_of

FACTS, PARTS, FILES, RECORDS, HASHES = "index.json", "parts.parquet", "files.arrow", "records.arrow", "hashes.bin"
VERSION = 3
ROWS = 2**14  # of a batch
MAX_FIELDS = 1000  # whose names are kept
MAX_CONTENT = 2**32 - 1  # bytes
IMAGE = "image"  # the name of the content that is a sample's image; in shards it is that of a member
NAMED = 3  # files of each kind that a difference names


class Stamp(NamedTuple):
    """What a file system says of a file."""

    size: int  # bytes; -1 if there is no file
    modified: int  # nanoseconds of the last change of the content. Copies can keep it, and anybody can set it.
    # Of the last change of content or status. Nobody can set it, but backups, chmod and copies change it too, so it
    # only decides which files are read again for an index.
    changed: int

    def is_same(self, other: "Stamp") -> bool:
        """True if a file with the other stamp has the same content, unless somebody has set its time."""
        return self[:2] == other[:2]


MISSING = Stamp(-1, 0, 0)
Entry = TypeVar("Entry")
NUMBERS = {"file": pa.uint32(), "offset": pa.uint64(), "length": pa.uint32(), "checksum": pa.uint32()}
CONTENT = pa.struct({"name": pa.string(), **NUMBERS})
SCHEMA = pa.schema({"key": pa.string(), "contents": pa.list_(CONTENT), "fields": pa.string()})
FILE_SCHEMA = pa.schema(
    {"name": pa.string(), **dict.fromkeys(Stamp._fields, pa.int64()), "version": pa.string(), "checksum": pa.string()}
)

OnProgress = Callable[[int, int | None], None]  # samples or files so far, and of all if that is known
hash_key = hash64.__wrapped__  # keys do not repeat, so a cache is only in the way


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def stamp_at(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of a file, MISSING if there is none."""
    try:
        return stamp_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return MISSING


def difference(
    before: Mapping[str, Entry], now: Mapping[str, Entry], is_same: Callable[[Entry, Entry], bool] = operator.eq
) -> str:
    """Return one sentence on names: ``a.jpg is missing; b.jpg, c.jpg, d.jpg and 2 more are changed``, or nothing."""
    kinds = {
        "missing": sorted(before.keys() - now.keys()),
        "new": sorted(now.keys() - before.keys()),
        "changed": sorted(name for name in before.keys() & now.keys() if not is_same(before[name], now[name])),
    }
    sentences = []
    for kind, names in kinds.items():
        rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        if names:
            sentences.append(f"{', '.join(names[:NAMED])}{rest} {'is' if len(names) == 1 else 'are'} {kind}")
    return "; ".join(sentences)


class DataPart(NamedTuple):
    """A part of a location that can change on its own, such as a shard; its name is unique within the location."""

    name: str
    num_samples: int
    size: int  # bytes
    checksum: str  # of its content


class Content(NamedTuple):
    """A range of a file, which is given by its number in the index; for a shard, the number is that of its part."""

    file: int
    offset: int
    length: int
    checksum: int  # CRC-32 of the bytes


class Record(NamedTuple):
    """A sample, as a layout describes it."""

    key: str  # unique and stable
    contents: dict[str, Content]  # by name: ``image``, and what holds texts, such as ``txt`` and ``json``
    fields: Mapping[str, Any] | None = None  # values of JSON


class IndexedFile(NamedTuple):
    """A file: its path from the base of the location, its stamp, or for a URL its size and version, and a checksum."""

    name: str
    stamp: Stamp
    version: str = ""
    checksum: str = ""


class RecordBatch(NamedTuple):
    """Records that are consecutive, with the columns of ``SCHEMA``, and their hashes, uint64 [B]."""

    rows: pa.RecordBatch
    hash_B: np.ndarray


def batch_of(records: Sequence[Record]) -> RecordBatch:
    """Return records as a batch. Values of fields that JSON does not know, such as dates, become text."""
    rows = [
        {
            "key": key,
            "contents": [{"name": name, **content._asdict()} for name, content in contents.items()],
            "fields": None if fields is None else json.dumps(fields, default=str),
        }
        for key, contents, fields in records
    ]
    hash_B = np.array([hash_key(record.key) for record in records], np.uint64)
    return RecordBatch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA), hash_B)


class IndexWriter:
    """Writes the files of an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[DataPart] = []
        self.facts: dict[str, Any] = {}  # that a layout adds to index.json
        self.notes: list[str] = []  # sentences about samples that were left out or cannot be used
        self.names: dict[str, None] = {}  # of contents, in the order in which they appeared
        self.num_samples = 0
        self.num_read = 0  # files that were read and not known; with some, an interrupted index is worth keeping
        self._files: list[IndexedFile] = []
        self._fields: dict[str, None] = {}
        self._pending: list[pa.RecordBatch] = []
        self._num_pending = 0
        self._records = pa.ipc.new_file(str(folder / RECORDS), SCHEMA)
        self._hashes = (folder / HASHES).open("wb")

    def add_file(self, file: IndexedFile) -> int:
        self._files.append(file)
        return len(self._files) - 1

    def add(self, records: Iterable[Record]) -> None:
        records = iter(records)
        while chunk := list(itertools.islice(records, ROWS)):
            for record in chunk if len(self._fields) < MAX_FIELDS else ():
                self._fields.update(dict.fromkeys(record.fields or ()))
            self.add_batch(batch_of(chunk))

    def add_batch(self, batch: RecordBatch) -> None:
        self.names.update(dict.fromkeys(batch.rows.column("contents").flatten().field("name").unique().to_pylist()))
        self.num_samples += len(batch.rows)
        self._hashes.write(batch.hash_B.astype("<u8").tobytes())
        self._pending.append(batch.rows)
        self._num_pending += len(batch.rows)
        if self._num_pending >= ROWS:
            self._write_pending(ROWS)

    def _write_pending(self, least: int) -> None:
        table = pa.Table.from_batches(self._pending, SCHEMA)
        while len(table) >= least:
            self._records.write_table(table.slice(0, ROWS).combine_chunks(), ROWS)
            table = table.slice(ROWS)
        self._pending, self._num_pending = table.combine_chunks().to_batches(), len(table)

    def close_files(self) -> None:
        self._records.close()
        self._hashes.close()

    def close(self, location: Location) -> None:
        """Write what is left, and the facts."""
        self._write_pending(1)
        self.close_files()
        rows = [file._asdict() | file.stamp._asdict() for file in self._files]
        table = pa.Table.from_pylist(rows, FILE_SCHEMA)
        with pa.ipc.new_file(str(self.folder / FILES), FILE_SCHEMA) as writer:
            writer.write_table(table)
        write_parts(self.folder / PARTS, self.parts)
        facts = {"version": VERSION, "num_samples": self.num_samples, **made_for(location), "base": base_path(location)}
        facts |= {"names": list(self.names), "fields": list(self._fields), **self.facts}
        (self.folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


class Index:
    """An open index, mapped into memory; with ``of_any_files`` also one that was made for another list of shards."""

    def __init__(self, location: Location, *, of_any_files: bool = False) -> None:
        self._folder, self._has_shards = index_path(location), bool(location.shards)
        try:
            self.facts: dict[str, Any] = json.loads((self._folder / FACTS).read_text())
            if self.facts["version"] != VERSION:
                raise ValueError("it is of another version")
            for key, now in made_for(location).items():
                if self.facts.get(key) != now and not of_any_files:
                    raise ValueError(f"it was made for another {key} than the description has now")
            self.base = self.facts["base"] if of_any_files else base_path(location)
            self.names: list[str] = self.facts["names"]
            self.fields: list[str] = self.facts["fields"]
            self.files: pa.Table = pa.ipc.open_file(pa.memory_map(str(self._folder / FILES))).read_all()
            self._reader = pa.ipc.open_file(pa.memory_map(str(self._folder / RECORDS)))
            is_empty = not (self._folder / HASHES).stat().st_size
            self.hash_N: np.ndarray = (  # of the keys, uint64 [N]
                np.empty(0, np.uint64) if is_empty else np.memmap(self._folder / HASHES, "<u8", mode="r")
            )
            if self._reader.num_record_batches != -(-len(self.hash_N) // ROWS):
                raise ValueError(f"{RECORDS} has another number of samples than {HASHES}")
            if self.files.schema != FILE_SCHEMA or self._reader.schema != SCHEMA:
                raise ValueError("it has other columns")
            num_samples = pq.read_table(self._folder / PARTS)["num_samples"].to_numpy()
            # Of each shard, and the end of the last one; int64 [P + 1].
            self.first_row = np.concatenate([[0], np.cumsum(num_samples)]).astype(np.int64)
        except (OSError, ValueError, KeyError, TypeError) as error:  # arrow's errors are among these
            if isinstance(error, FileNotFoundError) and not (self._folder / FACTS).exists():
                raise UsageError(f"there is no index at {self._folder}; write it with {command(location)}") from None
            raise UsageError(
                f"the index {self._folder} cannot be used: {error}; write it again with {command(location)}"
            ) from error
        self._lock = threading.Lock()
        self._batch = lru_cache(maxsize=32)(self._read_batch)

    def __len__(self) -> int:
        return len(self.hash_N)

    @cached_property
    def parts(self) -> list[DataPart]:
        return read_parts(self._folder / PARTS)

    def path(self, file: int) -> str:
        return str(self.base + self.files["name"][file].as_py())

    def read_files(self) -> list[IndexedFile]:
        columns = [self.files[name].to_pylist() for name in FILE_SCHEMA.names]
        return [IndexedFile(name, Stamp(*rest[:3]), *rest[3:]) for name, *rest in zip(*columns, strict=True)]

    def stamps(self) -> dict[str, Stamp]:
        """Return the stamps of the files by name, without those that were missing."""
        return {file.name: file.stamp for file in self.read_files() if file.stamp.size >= 0}

    def key(self, row: int) -> str:
        return str(self._value(row, "key"))

    def contents(self, row: int) -> dict[str, Content]:
        contents = {values.pop("name"): Content(**values) for values in self._value(row, "contents")}
        if not self._has_shards:
            return contents
        shard = int(np.searchsorted(self.first_row, row, side="right")) - 1
        return {name: content._replace(file=shard) for name, content in contents.items()}

    def fields_of(self, row: int) -> dict[str, Any]:
        return dict(json.loads(self._value(row, "fields") or "{}"))

    def batches(self, start: int, stop: int) -> Iterator[RecordBatch]:
        while start < stop:
            number, place = divmod(start, ROWS)
            end = min(stop, (number + 1) * ROWS)
            yield RecordBatch(self._batch(number).slice(place, end - start), np.asarray(self.hash_N[start:end]))
            start = end

    def _value(self, row: int, column: str) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._batch(row // ROWS).column(column)[row % ROWS].as_py()

    def _read_batch(self, number: int) -> pa.RecordBatch:
        with self._lock:
            return self._reader.get_batch(number)


def index_path(location: Location) -> Path:
    assert location.index, "descriptions that are read from a file have the path of an index"
    return Path(location.index)


def unfinished(location: Location) -> Location:
    """Return the location of what an interrupted call has read for an index."""
    return dataclasses.replace(location, index=f"{index_path(location)}.unfinished")


def known_indexes(location: Location) -> Iterator[Index]:
    """Yield the index of a location, then its unfinished one, if they can be used."""
    for place in (location, unfinished(location)):
        with contextlib.suppress(UsageError):
            yield Index(place, of_any_files=True)


def command(location: Location) -> str:
    """Return the command line that writes a location's index, quoted for the shell."""
    stem = index_path(location).name.removesuffix(INDEX_SUFFIX)
    names = [stem, *(stem.removesuffix(f"-{split}") for split in SPLITS)]
    files = (index_path(location).with_name(f"{name}{suffix}") for name in names for suffix in DESCRIPTIONS)
    description = next((str(file) for file in files if file.is_file()), "FILE.yaml")
    return f"{as_typed('data')} index {shlex.quote(description)}"


@contextlib.contextmanager
def writing(location: Location) -> Iterator[IndexWriter]:
    """Yield a writer of an index, which replaces the old index at the end and deletes the unfinished one.

    After an error the old index stays, and what was read is kept as the unfinished index.
    """
    folder = index_path(location)
    if folder.exists() and not (folder / FACTS).is_file():
        raise UsageError(f"{folder} exists and is no index; set index to another path")
    partial = beside(folder)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"index: {folder} cannot be written ({error.strerror}); set index to another path") from error
    writer = IndexWriter(partial)
    try:
        try:
            yield writer
        except BaseException:
            if writer.num_read:
                writer.close(unfinished(location))
                replace_folder(partial, index_path(unfinished(location)))
            raise
        writer.close(location)
        try:
            replace_folder(partial, folder)
        except OSError as error:
            raise UsageError(f"the index {folder} cannot be replaced ({error.strerror})") from error
        shutil.rmtree(index_path(unfinished(location)), ignore_errors=True)
    finally:
        writer.close_files()
        shutil.rmtree(partial, ignore_errors=True)


def made_for(location: Location) -> dict[str, Any]:
    """Return what an index depends on beside its files, which have names, sizes and times."""
    depends: dict[str, Any] = {key: bool(getattr(location, key)) for key in ("folder", "table")}
    depends["shards"] = [pattern.removeprefix(base_of(location.shards)) for pattern in location.shards]
    # An index of shards has all members, whichever is the image.
    return depends if location.shards else depends | {"image": location.image}


def base_path(location: Location) -> str:
    """Return what the names of files in an index are relative to: a folder or the start of a URL, with its slash."""
    return base_of(location.shards) if location.shards else os.path.realpath(location.folder or "") + "/"


def write_parts(path: Path, parts: Sequence[DataPart]) -> None:
    """Write parts to a Parquet file, atomically."""
    schema = pa.schema({"name": pa.string(), "num_samples": pa.int64(), "size": pa.int64(), "checksum": pa.string()})
    with replacing(path) as partial:
        pq.write_table(pa.Table.from_pylist([part._asdict() for part in parts], schema), partial)


def read_parts(path: Path) -> list[DataPart]:
    try:
        return [DataPart(**row) for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
