"""The index of an image folder: one row for each image, or for each row of its table."""

import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.folder import tables
from aimv2.datasets.index_folder import write_facts, writing
from aimv2.datasets.records import DataPart, Indexed, OnProgress

SAMPLES = "samples.arrow"
EXTENSIONS = ("jpg", "jpeg", "png", "webp")
MISSING = -1  # the size of an image that a table names and the folder does not have
GROUP = 256  # paths that a thread looks up at a time
COLUMN = "column "  # prefix of the table's columns in the index


class _Row(NamedTuple):
    """A sample: its key, the image's path within the folder and its size in bytes."""

    key: str
    path: str
    size: int


class _FolderParts:
    """Sizes and checksums by subfolder, while files are found."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}
        self._hashes = {}  # type: dict[str, hashlib._Hash]

    def add(self, path: str, size: int, num_samples: int) -> None:
        name = path.partition("/")[0] if "/" in path else "."
        sums = self._sums.setdefault(name, [0, 0])
        sums[0] += num_samples
        sums[1] += max(size, 0)
        self._hashes.setdefault(name, hashlib.sha256()).update(f"{path}\0{size}\n".encode())

    def parts(self) -> list[DataPart]:
        return [
            DataPart(name, num_samples, size, self._hashes[name].hexdigest())
            for name, (num_samples, size) in sorted(self._sums.items())
        ]


def build(location: Location, workers: int, on_progress: OnProgress) -> Indexed:
    """Write the index of an image folder.

    File sizes and names are read, but no images. The checksum of a part is one of names and sizes.

    Raises:
        UsageError: folder or table cannot be read, there is no image, a path leaves the folder, or a key occurs twice.
    """
    folder = Path(location.folder or "")
    if not folder.is_dir():
        raise UsageError(f"folder: {folder} is no folder that can be read")
    parts, notes = _FolderParts(), list[str]()
    if location.table:
        batches = _table_rows(location, folder, Path(location.table), workers, parts)
    else:
        batches = _image_rows(location, folder, parts, notes)
    with writing(location) as index:
        hashes, num_missing = _write(index / SAMPLES, batches, on_progress)
        num_samples = len(hashes)
        if not num_samples:
            raise UsageError(_nothing(location, notes))
        _refuse_repeated(index / SAMPLES, hashes, location)
        if num_missing:
            notes.append(f"{num_missing} of {num_samples} images of the table are missing in {folder}")
        table = [_table_part(Path(location.table), num_samples)] if location.table else []
        write_facts(index, location, num_samples, table + parts.parts())
    return Indexed(num_samples, tuple(notes))


def _image_rows(
    location: Location, folder: Path, parts: _FolderParts, notes: list[str]
) -> Iterator[tuple[list[_Row], pa.RecordBatch | None]]:
    """Find the images, sorted by path."""
    extensions = (location.image,) if location.image else EXTENSIONS
    root = os.path.realpath(folder)
    outside = [0]
    found = _scan(root, "", tuple(f".{extension.lower()}" for extension in extensions), root, parts, outside)
    while rows := list(itertools.islice(found, tables.BATCH)):
        yield rows, None
    if outside[0]:
        notes.append(f"{outside[0]} links were not followed, because they lead out of {folder} or to a folder")


def _scan(
    root: str, within: str, extensions: tuple[str, ...], folder: str, parts: _FolderParts, outside: list[int]
) -> Iterator[_Row]:
    """Yield the images of a folder and its subfolders in the order of their paths; hidden names are left out."""
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not entry.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"folder: {folder} cannot be read: {error.strerror}") from error
    folders = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    stems = {entry.name.rpartition(".")[0] for entry in entries if entry.name.lower().endswith(extensions)}
    for entry in sorted(entries, key=lambda entry: entry.name + "/" * (entry.name in folders)):
        path = within + entry.name
        if entry.name in folders:
            yield from _scan(root, f"{path}/", extensions, entry.path, parts, outside)
            continue
        if entry.is_symlink() and (entry.is_dir() or not is_within(root, entry.path)):
            outside[0] += 1
            continue
        is_image = entry.name.lower().endswith(extensions)
        if entry.is_file() and (is_image or _belongs(entry.name, stems)):
            size = entry.stat().st_size
            _check_utf8(path, folder)
            parts.add(path, size, int(is_image))
            if is_image:
                yield _Row(path, path, size)


def _belongs(name: str, stems: set[str]) -> bool:
    """True if a file has the stem of an image, as ``a.txt`` and ``a.caption.txt`` have that of ``a.jpg``."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in stems:
            return True
    return False


def _table_rows(
    location: Location, folder: Path, table: Path, workers: int, parts: _FolderParts
) -> Iterator[tuple[list[_Row], pa.RecordBatch | None]]:
    """Read the rows of the table, and the sizes of their images."""
    name = location.image or "image"
    root = os.path.realpath(folder)
    first = 1
    with ThreadPoolExecutor(max(1, workers)) as pool:  # threads: the time is the file system's
        for batch in tables.read_batches(table):
            images = tables.column(batch, name)
            if images is None:
                columns = [column for column in batch.schema.names if column != tables.JSON_ROW]
                has = f"; it has {', '.join(columns)}" if columns else ""
                raise UsageError(f"table: {table} has no column {name!r} with the paths of images{has}")
            paths = [_path(value, f"row {row} of {table}") for row, value in enumerate(images, first)]
            keys = tables.column(batch, "key") or paths
            groups = [paths[start : start + GROUP] for start in range(0, len(paths), GROUP)]
            sizes = [
                size
                for group in pool.map(lambda group: [_size(root, path) for path in group], groups)
                for size in group
            ]
            rows = [_Row(str(key), path, size) for key, path, size in zip(keys, paths, sizes, strict=True)]
            for number, row in enumerate(rows, first):
                if row.size < MISSING:
                    raise UsageError(f"row {number} of {table}: {row.path} is a link that leads out of {folder}")
                parts.add(row.path, row.size, 1)
            yield rows, batch
            first += len(rows)


def _path(value: object, where: str) -> str:
    """Return a path within the folder in its shortest form."""
    path = PurePosixPath(value) if isinstance(value, str) and value and "\0" not in value else None
    if path is None:
        raise UsageError(f"{where} has no path of an image (got {value!r})")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"{where}: the path {value!r} leaves the folder; paths are relative to it, without ..")
    return str(path)


def _size(root: str, path: str) -> int:
    """Return the size of an image, MISSING, or less than that for a link that leads out of the folder."""
    file = os.path.join(root, path)
    try:
        status = os.stat(file)
    except OSError:
        return MISSING
    if not stat.S_ISREG(status.st_mode):
        return MISSING
    return status.st_size if is_within(root, file) else MISSING - 1


def is_within(root: str, file: str) -> bool:
    """True if a file is in a folder once links are followed; ``root`` is a real path.

    To follow all links of a path takes as long as to read a small file, so this is done once for each folder.
    """
    parent, name = os.path.split(file)
    if name in ("", ".", "..") or os.path.islink(file):
        return os.path.realpath(file).startswith(root.rstrip("/") + "/")
    return _holds(root, parent)


@lru_cache(maxsize=4096)
def _holds(root: str, folder: str) -> bool:
    return (os.path.realpath(folder) + "/").startswith(root.rstrip("/") + "/")


def _write(
    path: Path, batches: Iterable[tuple[list[_Row], pa.RecordBatch | None]], on_progress: OnProgress
) -> tuple[np.ndarray, int]:
    """Write the rows; return the hashes of their keys, uint64 [N], and the number of missing images."""
    hashes, num_missing, num_rows = [np.empty(0, np.uint64)], 0, 0
    writer = None
    try:
        for rows, columns in batches:
            hash_B = np.array([address.hash64(row.key) for row in rows], np.uint64)
            own = {
                "key": pa.array([row.key for row in rows], pa.string()),
                "path": pa.array([row.path for row in rows], pa.string()),
                "size": pa.array([row.size for row in rows], pa.int64()),
                "hash": pa.array(hash_B),
            }
            of_table = {} if columns is None else dict(zip(columns.schema.names, columns.columns, strict=True))
            batch = pa.record_batch(own | {COLUMN + name: values for name, values in of_table.items()})
            writer = writer or pa.ipc.new_file(str(path), batch.schema)
            writer.write_batch(batch)
            hashes.append(hash_B)
            num_missing += sum(row.size == MISSING for row in rows)
            num_rows += len(rows)
            on_progress(num_rows, None)
    finally:
        if writer is not None:
            writer.close()
    return np.concatenate(hashes), num_missing


def _refuse_repeated(path: Path, hash_N: np.ndarray, location: Location) -> None:
    """Raise a UsageError if a key occurs twice."""
    order_N = np.argsort(hash_N, kind="stable")
    (same_R,) = np.nonzero(hash_N[order_N[1:]] == hash_N[order_N[:-1]])
    if not len(same_R):
        return
    with pa.memory_map(str(path)) as file:
        key_N = pa.ipc.open_file(file).read_all()["key"]
        for first, second in zip(order_N[same_R].tolist(), order_N[same_R + 1].tolist(), strict=True):
            if (key := key_N[first].as_py()) == key_N[second].as_py():
                raise UsageError(
                    f"rows {first + 1} and {second + 1} of {location.table} have the same key {key!r}; "
                    "give each row a unique value in a column named key"
                )


def _table_part(table: Path, num_samples: int) -> DataPart:
    with table.open("rb") as file:
        return DataPart(
            f"table {table.name}", num_samples, table.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        )


def _nothing(location: Location, notes: list[str]) -> str:
    if location.table:
        return f"table: {location.table} has no rows"
    wanted = ", ".join((location.image,) if location.image else EXTENSIONS)
    return "; ".join([f"folder: {location.folder} has no images ({wanted})", *notes])


def _check_utf8(path: str, folder: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the name of {path!r} in {folder} is not UTF-8; rename the file") from error
