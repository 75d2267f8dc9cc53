"""Records of a dataset that the package datasets saved to disk. Letters: N rows, B rows."""

import hashlib
import os
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from aimv2.base import address
from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.folder.files import IndexedFolder, Walk, by_folder, is_within, known_files, parts_of, write_files
from aimv2.datasets.index_folder import (
    PARTS,
    command,
    index_path,
    read_facts,
    read_parts,
    write_facts,
    writing,
)
from aimv2.datasets.records import MAX_BLOCK_ROWS, DataPart, Indexed, OnProgress, Records, reopened
from aimv2.datasets.shards.remote import Patience
from aimv2.datasets.stamps import Stamp, stamp_of

HASHES = "key_hashes.npy"
STAMPS = "stamps"  # of the files of the table, in the facts of an index
IMAGES = "images"  # the part of those that are not in the table
KEYS = ("key", "__key__", "id")
CHUNK = 2**16


class DatasetRecords(Records):
    """Rows of a dataset; a field is a column.

    The image column holds what the feature ``Image`` stores, or bytes, or paths within the dataset's folder. The value
    of a ``ClassLabel`` is the name of its class. Blocks are large, because the order of rows is often that of classes.
    """

    @staticmethod
    def build(location: Location, workers: int, on_progress: OnProgress, *, verify: bool = False) -> Indexed:
        """Write the index of a dataset: the hashes of its keys, and what its files are.

        Its tables are always read again. The key is the column ``key``, ``__key__`` or ``id`` if its values are unique,
        else the number of the row.

        Raises:
            UsageError: the dataset cannot be read, is empty, or has no usable column of images.
        """
        table, _, files = _load(location)
        if not table.num_rows:
            raise UsageError(f"dataset: {location.dataset} has no rows")
        files += _about(location)
        stamps = [stamp_of(file.stat()) for file in files]
        root = os.path.realpath(location.dataset or "")
        listings = list(Walk(root, named=by_folder(_image_paths(location, table, root))))
        with writing(location) as index:
            key, hash_N = key_hashes(table, on_progress)
            np.save(index / HASHES, hash_N, allow_pickle=False)
            with ThreadPoolExecutor(max(1, workers)) as pool:  # threads: hashing releases the interpreter lock
                parts = list(pool.map(_part, files, stamps))
            known = None if verify else known_files(location)
            written = write_files(index, root, listings, known, workers, on_progress)
            num_images = {IMAGES: table.num_rows} if any(each.names for each in listings) else {}
            parts += parts_of(listings, written.checksums, num_images, lambda path: IMAGES)
            write_facts(index, location, table.num_rows, parts, key=key, **{STAMPS: stamps})
        return Indexed(table.num_rows, note_of(key))

    def __init__(self, location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> None:
        """Open the dataset and its index (``RecordsReader``); nothing is copied."""
        facts = read_facts(location)
        self._location = location
        self._folder = Path(location.dataset or "")
        self._patience = Patience()
        self._table, self._classes, self._tables = _load(location)
        self._stamps = [Stamp(*values) for values in facts[STAMPS]]
        self._parts = read_parts(index_path(location) / PARTS)
        self._ends = list(accumulate(part.num_samples for part in self._parts[: len(self._tables)]))
        self._tables += _about(location)
        self._files = IndexedFolder(self._folder, index_path(location), command(location))
        if len(self._stamps) != len(self._tables) or not all(map(self._is_same, range(len(self._tables)))):
            raise UsageError(f"{location.dataset} has changed since it was indexed; run {command(location)}")
        self._image = location.image or "image"
        self._key: pa.ChunkedArray | None = self._table[facts["key"]] if facts["key"] else None
        self._hash_N = np.load(index_path(location) / HASHES, mmap_mode="r", allow_pickle=False)
        self.block_rows = min(len(self), MAX_BLOCK_ROWS)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (type(self), self._location, {}, self.digest())

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return self._files.retries + self._patience.retries

    def __len__(self) -> int:
        return len(self._hash_N)

    def key(self, row: int) -> str:
        return str(row if self._key is None else self._key[row].as_py())

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._hash_N[row_B])

    def image(self, row: int) -> bytes:
        value = self._value(row, self._image)
        stored = value if isinstance(value, dict) else {"bytes" if isinstance(value, bytes) else "path": value}
        if stored.get("bytes"):
            return bytes(stored["bytes"])
        path = _within(self._files.root, stored["path"]) if stored.get("path") else None
        content = None if path is None else self._files.read(path)
        if content is None:
            raise BadSampleError("missing image", path or f"row {row}")
        return content

    def field(self, row: int, name: str) -> Any:
        if name not in self._table.column_names:
            return None
        value = self._value(row, name)
        if name in self._classes and value is not None:
            return self._classes[name][value] if value >= 0 else None  # -1: an unlabelled sample
        return value

    def parts(self) -> list[DataPart]:
        return self._parts

    def fields(self) -> list[str]:
        return list(self._table.column_names)

    def check(self) -> None:
        for number, file in enumerate(self._tables):
            if not self._is_same(number):
                raise UsageError(f"{file} has changed since it was indexed; run {command(self._location)}")
        self._files.check(Walk(self._files.root, named=self._files.named()))

    def _value(self, row: int, name: str) -> Any:
        """Return the value of a column, which is read from a file that is as it was indexed."""
        value, number = self._table[name][row].as_py(), bisect_right(self._ends, row)
        if not self._is_same(number):
            raise RunFailedError(
                "data", f"{self._tables[number]} has changed since it was indexed; run {command(self._location)}"
            )
        return value

    def _is_same(self, number: int) -> bool:
        """True if a file of the table has the size and time with which it was indexed."""
        try:
            return stamp_of(self._patience.read(self._tables[number].stat)).is_same(self._stamps[number])
        except OSError:
            return False


class _Loaded(NamedTuple):
    """A dataset, memory-mapped.

    Attributes:
        table: its rows.
        classes: names of the classes of its labels, by column.
        files: the files of its rows, in order.
    """

    table: pa.Table
    classes: dict[str, list[str]]
    files: list[Path]


def _load(location: Location) -> _Loaded:
    folder = location.dataset
    try:
        import datasets
    except ImportError as error:
        raise UsageError("dataset needs the package datasets; run: pip install 'aimv2-ablations[datasets]'") from error
    try:
        loaded = datasets.load_from_disk(folder)
    except IndexError:  # datasets 5.2 fails so on a dataset without files
        raise UsageError(f"dataset: {folder} has no rows") from None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UsageError(f"dataset: {folder} is not what datasets.Dataset.save_to_disk writes ({error})") from error
    if not isinstance(loaded, datasets.Dataset):
        splits = list(loaded)
        raise UsageError(
            f"dataset: {folder} has the splits {', '.join(splits)}; name one, such as {folder}/{splits[0]}"
        )
    table: pa.Table = loaded.data.table
    if table.num_rows != len(loaded):
        raise UsageError(f"dataset: {folder} selects rows by an index; save the result of flatten_indices()")
    classes = {
        name: feature.names for name, feature in loaded.features.items() if isinstance(feature, datasets.ClassLabel)
    }
    return _Loaded(table, classes, [Path(file["filename"]) for file in loaded.cache_files])


def _about(location: Location) -> list[Path]:
    """Return the files that say what the columns are, such as the names of classes."""
    files = (Path(location.dataset or "", name) for name in ("dataset_info.json", "state.json"))
    return [file for file in files if file.is_file()]


def _image_paths(location: Location, table: pa.Table, root: str) -> set[str]:
    """Return the paths within the dataset's folder of the images that are not in its table.

    Raises:
        UsageError: there is no column of images, or one of its paths leaves the dataset's folder.
    """
    name, folder = location.image or "image", Path(location.dataset or "")
    if name not in table.column_names:
        raise UsageError(
            f"dataset: {folder} has no column {name!r}; set image to one of {', '.join(table.column_names)}"
        )
    row, found = 0, set[str]()
    for chunk in table[name].chunks:
        if pa.types.is_struct(chunk.type):
            has_bytes = chunk.field("bytes").is_valid().to_pylist()
            paths = [
                None if has else path for has, path in zip(has_bytes, chunk.field("path").to_pylist(), strict=True)
            ]
        elif pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type):
            paths = chunk.to_pylist()
        elif pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type):
            return found
        else:
            raise UsageError(f"dataset: the column {name!r} of {folder} has {chunk.type}, not images, bytes or paths")
        for number, path in enumerate(paths, row):
            if path and not is_within(root, os.path.join(root, path)):
                raise UsageError(
                    f"dataset: the image of row {number}, {path!r}, is not in {folder}; save the images in the dataset"
                )
        found.update(_within(root, path) for path in paths if path)
        row += len(chunk)
    return found


def _within(root: str, path: str) -> str:
    """Return the path within a dataset's folder, a real path, of a path in its table, which may be absolute."""
    if not os.path.isabs(path):
        return os.path.normpath(path)
    parent, name = os.path.split(path)
    return os.path.relpath(os.path.join(os.path.realpath(parent), name), root)


def key_hashes(table: pa.Table, on_progress: OnProgress) -> tuple[str | None, np.ndarray]:
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


def _part(path: Path, stamp: Stamp) -> DataPart:
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if stamp_of(os.fstat(file.fileno())) != stamp:
            raise UsageError(f"{path} changed while it was indexed; index again when it is complete")
    num_rows = 0
    if path.suffix == ".arrow":
        with pa.memory_map(str(path)) as mapped:
            num_rows = sum(batch.num_rows for batch in pa.ipc.open_stream(mapped))
    return DataPart(path.name, num_rows, stamp.size, checksum)
