"""The index of an image folder: one row for each image, or for each row of its table."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.folder import tables
from aimv2.datasets.folder.checksums import parts_of, write_files
from aimv2.datasets.folder.walk import Walk, by_folder, is_within
from aimv2.datasets.index_folder import write_facts, writing
from aimv2.datasets.records import DataPart, Indexed, OnProgress
from aimv2.datasets.stamps import Stamp, digest, stamp_of

SAMPLES = "samples.arrow"
EXTENSIONS = ("jpg", "jpeg", "png", "webp")
COLUMN = "column "  # prefix of the table's columns in the index
TABLE, MEMBERS = "table", "members"  # facts of an index: the stamp of its table, and what files beside images end in


class _Row(NamedTuple):
    """A sample: its key, and the image's path within the folder."""

    key: str
    path: str


def build(location: Location, workers: int, on_progress: OnProgress, *, verify: bool = False) -> Indexed:
    """Write the index of an image folder.

    Tables, images and files beside them are read once for their checksums. Files with the size and times of the last
    index are not read again.

    Args:
        verify: read all files again.

    Raises:
        UsageError: folder or table cannot be read, there is no image, a path leaves the folder, or a key occurs twice.
        RunFailedError: a process was killed.
    """
    folder = Path(location.folder or "")
    if not folder.is_dir():
        raise UsageError(f"folder: {folder} is no folder that can be read")
    root = os.path.realpath(folder)
    table = Path(location.table) if location.table else None
    stamp, paths = (table_stamp(table), _paths(table, location)) if table else (None, None)
    walk = walk_of(location, root, paths)
    listings = list(walk)
    exists = None
    if table and paths is not None:
        exists = {each.folder: set(each.names) for each in listings}
        batches, notes = _table_rows(table, paths, root, location.follow_links), list[str]()
    else:
        images = sorted(each.folder + name for each in listings for name in each.names if walk.is_image(name))
        batches, notes = _image_rows(images), _left_out(location, walk)
    with writing(location) as index:
        rows = _write(index / SAMPLES, batches, exists)
        if not (num_samples := len(rows.hash_N)):
            raise UsageError(_nothing(location, notes))
        _refuse_repeated(index / SAMPLES, rows.hash_N, location)
        if rows.num_missing:
            notes.append(f"{rows.num_missing} of {num_samples} images of the table are missing in {folder}")
        parts = list[DataPart]()
        if table and stamp:
            parts.append(DataPart(f"table {table.name}", num_samples, stamp.size, digest(table, stamp)))
        written = write_files(index, location, root, listings, workers, on_progress, verify=verify)
        notes += written.notes
        parts += parts_of(listings, written.checksums, rows.num_samples, _subfolder)
        write_facts(index, location, num_samples, parts, **{TABLE: stamp, MEMBERS: sorted(walk.members)})
    on_progress(num_samples, num_samples)
    return Indexed(num_samples, tuple(notes))


def walk_of(
    location: Location, root: str, paths: Iterable[str] | None, known: Mapping[str, Stamp | None] | None = None
) -> Walk:
    """Return a walk through a folder's images, or through those at given paths; ``known`` is that of ``Walk``."""
    extensions = (location.image,) if location.image and not location.table else EXTENSIONS
    named = None if paths is None else by_folder(paths)
    suffixes = tuple(f".{extension.lower()}" for extension in extensions)
    return Walk(root, suffixes, named, known, follow_links=location.follow_links)


def table_stamp(table: Path) -> Stamp:
    """Return the stamp of a table; UsageError if there is none."""
    try:
        return stamp_of(table.stat())
    except OSError as error:
        raise UsageError(f"table: {table} is no file that can be read") from error


def _left_out(location: Location, walk: Walk) -> list[str]:
    """Return sentences on what looks like an image and is none of the samples."""
    notes = []
    if walk.num_outside:
        where = f"because they lead out of {location.folder} or to a folder"
        notes.append(f"{walk.num_outside} links were not followed, {where}; follow_links: true follows them")
    if walk.others:
        found = ", ".join(f"{count:,} {extension}" for extension, count in walk.others.most_common())
        wanted = ", ".join((location.image,) if location.image else EXTENSIONS)
        notes.append(f"files left out, because they are none of {wanted}: {found}")
    return notes


def _image_rows(images: Sequence[str]) -> Iterator[tuple[list[_Row], pa.RecordBatch | None]]:
    for start in range(0, len(images), tables.BATCH):
        yield [_Row(path, path) for path in images[start : start + tables.BATCH]], None


def _paths(table: Path, location: Location) -> list[str]:
    """Return the path within the folder of each row's image, in its shortest form."""
    name, paths, folder = location.image or "image", list[str](), Path(location.folder or "")
    for batch in tables.read_batches(table):
        images = tables.column(batch, name)
        if images is None:
            columns = [column for column in batch.schema.names if column != tables.JSON_ROW]
            has = f"; it has {', '.join(columns)}" if columns else ""
            raise UsageError(f"table: {table} has no column {name!r} with the paths of images{has}")
        paths += [_path(value, folder, f"row {row} of {table}") for row, value in enumerate(images, len(paths) + 1)]
    return paths


def _path(value: object, folder: Path, where: str) -> str:
    path = PurePosixPath(value) if isinstance(value, str) and value and "\0" not in value else None
    if path is None:
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


def _table_rows(
    table: Path, paths: Sequence[str], root: str, follow_links: bool
) -> Iterator[tuple[list[_Row], pa.RecordBatch | None]]:
    """Read the rows of a table, whose images are at the given paths."""
    first = 0
    for batch in tables.read_batches(table):
        own = paths[first : first + batch.num_rows]
        for number, path in enumerate(own, first + 1):
            file = os.path.join(root, path)
            if not follow_links and os.path.lexists(file) and not is_within(root, file):
                raise UsageError(
                    f"row {number} of {table}: {path} is a link that leads out of the folder; follow_links: true"
                    " follows it"
                )
        keys = tables.column(batch, "key") or own
        yield [_Row(str(key), path) for key, path in zip(keys, own, strict=True)], batch
        first += batch.num_rows


class _Rows(NamedTuple):
    """What was written: hashes of the keys, uint64 [N], missing images, and samples by subfolder."""

    hash_N: np.ndarray
    num_missing: int
    num_samples: Counter[str]


def _write(
    path: Path, batches: Iterable[tuple[list[_Row], pa.RecordBatch | None]], exists: Mapping[str, set[str]] | None
) -> _Rows:
    hashes, num_missing, num_samples = [np.empty(0, np.uint64)], 0, Counter[str]()
    writer = None
    try:
        for rows, columns in batches:
            hash_B = np.array([address.hash64(row.key) for row in rows], np.uint64)
            own = {
                "key": pa.array([row.key for row in rows], pa.string()),
                "path": pa.array([row.path for row in rows], pa.string()),
                "hash": pa.array(hash_B),
            }
            of_table = {} if columns is None else dict(zip(columns.schema.names, columns.columns, strict=True))
            batch = pa.record_batch(own | {COLUMN + name: values for name, values in of_table.items()})
            writer = writer or pa.ipc.new_file(str(path), batch.schema)
            writer.write_batch(batch)
            hashes.append(hash_B)
            num_samples.update(_subfolder(row.path) for row in rows)
            num_missing += 0 if exists is None else sum(not _exists(row.path, exists) for row in rows)
    finally:
        if writer is not None:
            writer.close()
    return _Rows(np.concatenate(hashes), num_missing, num_samples)


def _exists(path: str, exists: Mapping[str, set[str]]) -> bool:
    folder, slash, name = path.rpartition("/")
    return name in exists.get(folder + slash, ())


def _subfolder(path: str) -> str:
    return path.partition("/")[0] if "/" in path else "."


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


def _nothing(location: Location, notes: list[str]) -> str:
    if location.table:
        return f"table: {location.table} has no rows"
    wanted = ", ".join((location.image,) if location.image else EXTENSIONS)
    return "; ".join([f"folder: {location.folder} has no images ({wanted})", *notes])
