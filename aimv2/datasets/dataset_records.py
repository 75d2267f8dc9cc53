"""Records of a dataset that the package datasets saved to disk. Letters: N rows."""

import os
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.folder.checksums import parts_of, write_files
from aimv2.datasets.folder.files import IndexedFolder
from aimv2.datasets.folder.walk import Walk, by_folder, is_within
from aimv2.datasets.index_folder import command, index_path, write_facts, writing
from aimv2.datasets.records import DataPart, Indexed, OnProgress
from aimv2.datasets.shards.remote import Patience
from aimv2.datasets.stamps import Stamp, digest, stamp_of
from aimv2.datasets.table_records import KEY, STAMPS, TableRecords, note_of, write_keys

IMAGES = "images"  # the part of those that are not in the table


class DatasetRecords(TableRecords):
    """Rows of a dataset; a field is a column.

    The image column holds what the feature ``Image`` stores, or bytes, or paths within the dataset's folder.
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
            key = write_keys(index, table, on_progress)
            with ThreadPoolExecutor(max(1, workers)) as pool:  # threads: hashing releases the interpreter lock
                parts = list(pool.map(_part, files, stamps))
            written = write_files(index, location, root, listings, workers, on_progress, verify=verify)
            num_images = {IMAGES: table.num_rows} if any(each.names for each in listings) else {}
            parts += parts_of(listings, written.checksums, num_images, lambda path: IMAGES)
            write_facts(index, location, table.num_rows, parts, **{KEY: key, STAMPS: stamps})
        return Indexed(table.num_rows, note_of(key))

    def __init__(self, location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> None:
        """Open the dataset and its index (``RecordsReader``); nothing is copied."""
        table, classes, self._tables = _load(location)
        super().__init__(location, table, classes)
        self._folder, self._image = Path(location.dataset or ""), location.image or "image"
        self._patience = Patience()
        self._ends = list(accumulate(part.num_samples for part in self._parts[: len(self._tables)]))
        self._tables += _about(location)
        self._files = IndexedFolder(self._folder, index_path(location), command(location))
        if len(self._stamps) != len(self._tables) or not all(map(self._is_same, range(len(self._tables)))):
            raise UsageError(f"{location.dataset} has changed since it was indexed; run {command(location)}")

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return self._files.retries + self._patience.retries

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

    def check(self, *, every_file: bool = False) -> None:
        for number, file in enumerate(self._tables):
            if not self._is_same(number):
                raise UsageError(f"{file} has changed since it was indexed; run {command(self._location)}")
        known = None if every_file else self._files.folder_stamps
        self._files.check(Walk(self._files.root, named=self._files.named(), known=known))

    def _value(self, row: int, name: str) -> Any:
        """Return the value of a column, which is read from a file that is as it was indexed."""
        value, number = super()._value(row, name), bisect_right(self._ends, row)
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


def _part(path: Path, stamp: Stamp) -> DataPart:
    num_rows = 0
    if path.suffix == ".arrow":
        with pa.memory_map(str(path)) as mapped:
            num_rows = sum(batch.num_rows for batch in pa.ipc.open_stream(mapped))
    return DataPart(path.name, num_rows, stamp.size, digest(path, stamp))
