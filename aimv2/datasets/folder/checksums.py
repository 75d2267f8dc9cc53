"""Checksums of the files of a folder: read for its index, and not again while the files stay. Letters: F, N files."""

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from aimv2.base.errors import UsageError
from aimv2.base.processes import in_processes
from aimv2.datasets.description import Location
from aimv2.datasets.folder.files import FILES, FOLDERS, Files
from aimv2.datasets.folder.walk import Listing
from aimv2.datasets.index_folder import index_path, read_facts, unfinished, write_facts, writing
from aimv2.datasets.records import DataPart, OnProgress
from aimv2.datasets.shards.remote import Patience
from aimv2.datasets.stamps import Stamp, require_unchanged, stamp_of

CHUNK = 1 << 20  # bytes that are read at a time
GROUP = 128  # files that a process reads at a time


class WrittenFiles(NamedTuple):
    """Files in an index: their checksums by listing, uint32 [F], and how many of them were read."""

    checksums: list[np.ndarray]
    num_read: int

    @property
    def notes(self) -> list[str]:
        """What was read, and what was not, in sentences."""
        known = sum(map(len, self.checksums)) - self.num_read
        unread = [f"not read again, because size and times have not changed: {known:,} files"] if known else []
        return [f"read {self.num_read:,} files", *unread]


def write_files(
    index: Path,
    location: Location,
    root: str,
    listings: Sequence[Listing],
    workers: int,
    on_progress: OnProgress,
    *,
    verify: bool = False,
) -> WrittenFiles:
    """Write the files of listings into the folder of an index, for ``Files``.

    Files with the stamps of an earlier index are not read again. If the reading fails or is interrupted, what was read
    is written to the unfinished index of the location, and the next call reads only the rest.

    Args:
        verify: read all files.

    Raises:
        UsageError: a file cannot be read, or changed while it was read.
        RunFailedError: a process was killed.
    """
    checksums = [np.zeros(len(each.names), np.uint32) for each in listings]
    is_known = [np.zeros(len(each.names), bool) for each in listings]
    for known in _earlier_files(location):
        for found in zip(listings, checksums, is_known, strict=True):
            _take_known(known, *found)
    unread = [
        (number, place) for number, is_F in enumerate(is_known) for place in np.flatnonzero(~is_F | verify).tolist()
    ]
    groups = [unread[start : start + GROUP] for start in range(0, len(unread), GROUP)]
    tasks = ([listings[number].file(place) for number, place in group] for group in groups)
    num_read = 0
    try:
        read = in_processes(partial(_read_files, root), tasks, min(workers, len(groups)), "reads files")
        for group, checksum_B in zip(groups, read, strict=True):
            for (number, place), checksum in zip(group, checksum_B, strict=True):
                checksums[number][place], is_known[number][place] = checksum, True
            num_read += len(group)
            on_progress(num_read, len(unread))
    except BaseException:
        if num_read:
            _write_unfinished(location, listings, checksums, is_known)
        raise
    _write(index, listings, checksums)
    return WrittenFiles(checksums, num_read)


def _earlier_files(location: Location) -> Iterator[Files]:
    """Yield the files of the index of a location, then those of its unfinished one; none if it cannot be used."""
    for place in (location, unfinished(location)):
        try:
            read_facts(place)
            yield Files(index_path(place))
        except (UsageError, OSError, ValueError, KeyError):
            continue  # there is none, or it is broken or of another location


def _take_known(known: Files, listing: Listing, checksum_F: np.ndarray, is_known_F: np.ndarray) -> None:
    """Set the checksums of the files of a listing that have the stamps of known files."""
    before = known.listing(listing.folder)
    rows = {before.file(row): row for row in range(len(before.names))}
    row_F = np.array([rows.get(listing.file(place), -1) for place in range(len(listing.names))], np.int64)
    is_same_F = row_F >= 0
    checksum_F[is_same_F] = known.checksums(listing.folder)[row_F[is_same_F]]
    is_known_F |= is_same_F


def _write_unfinished(
    location: Location, listings: Sequence[Listing], checksums: Sequence[np.ndarray], is_known: Sequence[np.ndarray]
) -> None:
    """Write the unfinished index of a location: the files whose checksums are known."""
    found = [
        Listing(each.folder, list(compress(each.names, is_F)), each.stamp_F3[is_F])
        for each, is_F in zip(listings, is_known, strict=True)
    ]
    place = unfinished(location)
    with writing(place) as index:
        _write(index, found, [checksum_F[is_F] for checksum_F, is_F in zip(checksums, is_known, strict=True)])
        write_facts(index, place, 0, [])


def _write(index: Path, listings: Sequence[Listing], checksums: Sequence[np.ndarray]) -> None:
    folders = {
        "folder": pa.array([each.folder for each in listings], pa.string()),
        "num_files": pa.array([len(each.names) for each in listings], pa.int64()),
        "stamp": pa.array([each.folder_stamp for each in listings], pa.list_(pa.int64())),
    }
    _write_table(index / FOLDERS, pa.table(folders))
    stamp_N3 = np.concatenate([np.empty((0, len(Stamp._fields)), np.int64), *(each.stamp_F3 for each in listings)])
    files = {"name": pa.array([name for each in listings for name in each.names], pa.large_string())}
    files |= {column: pa.array(values) for column, values in zip(Stamp._fields, stamp_N3.T.copy(), strict=True)}
    checksum_N = np.concatenate([np.empty(0, np.uint32), *checksums])
    _write_table(index / FILES, pa.table(files | {"checksum": pa.array(checksum_N)}))


def _write_table(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def parts_of(
    listings: Sequence[Listing],
    checksums: Sequence[np.ndarray],
    num_samples: Mapping[str, int],
    part_of: Callable[[str], str],
) -> list[DataPart]:
    """Return parts of a folder. Their checksums are of the content, without times, so a copy has the same ones.

    Args:
        num_samples: by the name of the part, also of parts without files.
        part_of: returns the name of the part to which a path belongs.
    """
    hashes = {name: hashlib.sha256() for name in sorted(num_samples)}
    sizes = Counter[str]()
    for each, checksum_F in zip(listings, checksums, strict=True):
        for place, checksum in enumerate(checksum_F.tolist()):
            path, stamp = each.file(place)
            name = part_of(path)
            hashes[name].update(f"{path}\0{stamp.size}\0{checksum:08x}\n".encode())
            sizes[name] += stamp.size
    return [DataPart(name, num_samples[name], sizes[name], each.hexdigest()) for name, each in hashes.items()]


def _read_files(root: str, files: Sequence[tuple[str, Stamp]]) -> list[int]:
    return [_checksum(os.path.join(root, path), stamp) for path, stamp in files]


def _checksum(file: str, stamp: Stamp) -> int:
    try:
        checksum, found = Patience().read(lambda: _summed(file))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    require_unchanged(file, stamp, found)
    return checksum


def _summed(file: str) -> tuple[int, Stamp]:
    """Return the checksum of a file of any size, and its stamp after it was read."""
    checksum = 0
    with open(file, "rb", buffering=0) as opened:
        while content := opened.read(CHUNK):
            checksum = zlib.crc32(content, checksum)
        return checksum, stamp_of(os.fstat(opened.fileno()))
