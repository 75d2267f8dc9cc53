"""What the files of a folder were when they were indexed. Letters: F files of a folder."""

import hashlib
import os
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.base.processes import in_processes
from aimv2.datasets.description import Location
from aimv2.datasets.folder.walk import Listing, is_within
from aimv2.datasets.index_folder import index_path, read_facts
from aimv2.datasets.records import DataPart, OnProgress
from aimv2.datasets.shards.remote import Patience
from aimv2.datasets.stamps import CONTENT, Stamp, changes, require_unchanged, stamp_of

FILES, FOLDERS = "files.arrow", "folders.arrow"
CHUNK = 1 << 20  # bytes that are read at a time
GROUP = 1024  # files that a process reads at a time


class IndexedFile(NamedTuple):
    """What an index says of a file; ``checksum`` is the CRC-32 of its content."""

    stamp: Stamp
    checksum: int


class Files:
    """The files of an index, memory-mapped."""

    def __init__(self, index: Path) -> None:
        """Open the files.

        Raises:
            OSError, ValueError, KeyError: they are missing or broken.
        """
        folders = pa.ipc.open_file(pa.memory_map(str(index / FOLDERS))).read_all()
        files = pa.ipc.open_file(pa.memory_map(str(index / FILES))).read_all()
        self._name = files["name"].combine_chunks()  # one chunk, unless there are no files
        self._stamp = [files[column].to_numpy() for column in Stamp._fields]
        self._checksum_N: np.ndarray = files["checksum"].to_numpy()
        # Names as bytes: to read one takes a tenth of the time.
        _, starts, content = self._name.buffers()
        self._start_N, self._content = memoryview(starts or b"").cast("q"), memoryview(content or b"")
        end = np.cumsum(folders["num_files"].to_numpy()).tolist()
        self._rows = dict(zip(folders["folder"].to_pylist(), map(range, [0, *end], end), strict=False))

    def find(self, path: str) -> IndexedFile | None:
        """Return the file at a path within the indexed folder; None if there was none."""
        folder, slash, name = path.rpartition("/")
        rows, wanted = self._rows.get(folder + slash, range(0)), name.encode()
        place = bisect_left(rows, wanted, key=self._bytes_of)
        if place == len(rows) or self._bytes_of(row := rows[place]) != wanted:
            return None
        return IndexedFile(Stamp(*(int(column[row]) for column in self._stamp)), int(self._checksum_N[row]))

    def _bytes_of(self, row: int) -> bytes:
        """Return the name of a file; the order of UTF-8 is that of the names."""
        return bytes(self._content[self._start_N[row] : self._start_N[row + 1]])

    def listings(self) -> Iterator[Listing]:
        """Yield the files of each folder."""
        return map(self.listing, self._rows)

    def listing(self, folder: str) -> Listing:
        """Return the files of a folder; none if there was no such folder."""
        part = self._part(folder)
        stamp_F3 = np.stack([column[part] for column in self._stamp], axis=1)
        return Listing(folder, self._name[part].to_pylist(), stamp_F3)

    def checksums(self, folder: str) -> np.ndarray:
        """Return the checksums of the files of a folder: uint32 [F]."""
        return self._checksum_N[self._part(folder)]

    def _part(self, folder: str) -> slice:
        rows = self._rows.get(folder, range(0))
        return slice(rows.start, rows.stop)

    def difference(self, found: Iterable[Listing]) -> str:
        """Return one sentence on the files that are missing, new or changed; empty if there is no difference."""
        names: dict[str, list[str]] = {"missing": [], "new": [], "changed": []}
        left = dict.fromkeys(self._rows)
        for now in found:
            left.pop(now.folder, None)
            before = self.listing(now.folder)
            if now.names == before.names and np.array_equal(now.stamp_F3[:, CONTENT], before.stamp_F3[:, CONTENT]):
                continue
            old, new = _by_name(before), _by_name(now)
            names["missing"] += [name for name in old if name not in new]
            names["new"] += [name for name in new if name not in old]
            names["changed"] += [name for name, stamp in new.items() if name in old and not stamp.is_same(old[name])]
        names["missing"] += [folder + name for folder in left for name in self.listing(folder).names]
        return changes(names)


class IndexedFolder:
    """A folder whose files were indexed. What is read is what was indexed, or an error.

    Args:
        index: the folder of the index, with what ``write_files`` wrote.
        command: that writes the index, for messages.
        follow_links: as in ``Walk``.

    Attributes:
        root: the real path of the folder.
    """

    def __init__(self, folder: Path, index: Path, command: str, *, follow_links: bool = False) -> None:
        self._folder, self._command, self._follow_links = folder, command, follow_links
        self.root = os.path.realpath(folder)
        try:
            self._files = Files(index)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"the index {index} cannot be used: {error}; write it again with {command}") from error
        self._patience = Patience()

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return self._patience.retries

    def named(self) -> dict[str, set[str]]:
        """Return the names of all files by their folder."""
        return {each.folder: set(each.names) for each in self._files.listings()}

    def check(self, found: Iterable[Listing]) -> None:
        """Compare the index with what the folder has now.

        Raises:
            UsageError: a file is missing, new or changed.
        """
        if sentence := self._files.difference(found):
            raise UsageError(
                f"{self._folder} is not as it was indexed ({sentence}); restore it, or run {self._command}"
            )

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, None if there is none.

        Raises:
            BadSampleError: it is a link that leads out of the folder.
            RunFailedError: it is not that which was indexed, or cannot be read (cause ``data``).
        """
        file, indexed = os.path.join(self.root, path), self._files.find(path)
        try:
            content, stamp = self._patience.read(lambda: self._read_once(file))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if not self._folder.is_dir():
                raise RunFailedError("data", f"the folder {self._folder} has gone") from None
            if indexed is None:
                return None
            raise self._not_indexed(file, "is missing") from None
        except OSError as error:
            raise RunFailedError("data", f"{file} cannot be read: {error.strerror}") from error
        if indexed is None:
            raise self._not_indexed(file, "is new")
        if not stamp.is_same(indexed.stamp) or zlib.crc32(content) != indexed.checksum:
            raise self._not_indexed(file, "has changed")
        return content

    def _read_once(self, file: str) -> tuple[bytes, Stamp]:
        if not self._follow_links and not is_within(self.root, file):
            raise BadSampleError("unsafe member", f"{file} is a link that leads out of {self._folder}")
        return read_whole(file)

    def _not_indexed(self, file: str, how: str) -> RunFailedError:
        return RunFailedError(
            "data", f"{file} {how} since {self._folder} was indexed; restore it, or run {self._command}"
        )


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
    root: str,
    listings: Sequence[Listing],
    known: Files | None,
    workers: int,
    on_progress: OnProgress,
) -> WrittenFiles:
    """Write the files of listings into the folder of an index, for ``Files``.

    Args:
        known: files of an earlier index, which are not read again if they have the same stamps.

    Raises:
        UsageError: a file cannot be read, or changed while it was read.
        RunFailedError: a process was killed.
    """
    written = _checksums(root, listings, known, workers, on_progress)
    folders = {"folder": [each.folder for each in listings], "num_files": [len(each.names) for each in listings]}
    _write_table(index / FOLDERS, pa.table(folders, pa.schema({"folder": pa.string(), "num_files": pa.int64()})))
    stamp_N3 = np.concatenate([np.empty((0, len(Stamp._fields)), np.int64), *(each.stamp_F3 for each in listings)])
    files = {"name": pa.array([name for each in listings for name in each.names], pa.large_string())}
    files |= {column: pa.array(values) for column, values in zip(Stamp._fields, stamp_N3.T.copy(), strict=True)}
    checksum_N = np.concatenate([np.empty(0, np.uint32), *written.checksums])
    _write_table(index / FILES, pa.table(files | {"checksum": pa.array(checksum_N)}))
    return written


def _write_table(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def known_files(location: Location) -> Files | None:
    """Return the files of the earlier index of a location; None if there is none, or it is broken or of another one."""
    try:
        read_facts(location)
        return Files(index_path(location))
    except (UsageError, OSError, ValueError, KeyError):
        return None


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


def _checksums(
    root: str, listings: Sequence[Listing], known: Files | None, workers: int, on_progress: OnProgress
) -> WrittenFiles:
    found = [np.zeros(len(each.names), np.uint32) for each in listings]
    unread = [
        (number, place) for number, each in enumerate(listings) for place in _take_known(each, found[number], known)
    ]
    groups = [unread[start : start + GROUP] for start in range(0, len(unread), GROUP)]
    tasks = ([listings[number].file(place) for number, place in group] for group in groups)
    num_read = 0
    read = in_processes(partial(_read_files, root), tasks, min(workers, len(groups)), "reads files")
    for group, checksum_B in zip(groups, read, strict=True):
        for (number, place), checksum in zip(group, checksum_B, strict=True):
            found[number][place] = checksum
        num_read += len(group)
        on_progress(num_read, len(unread))
    return WrittenFiles(found, num_read)


def _take_known(listing: Listing, checksum_F: np.ndarray, known: Files | None) -> list[int]:
    """Set the checksums of the files that are known; return the places of the others."""
    if known is None:
        return list(range(len(listing.names)))
    before = known.listing(listing.folder)
    rows = {file: row for row, file in enumerate(map(before.file, range(len(before.names))))}
    row_F = [rows.get(listing.file(place)) for place in range(len(listing.names))]
    known_F = [row is not None for row in row_F]
    checksum_F[known_F] = known.checksums(listing.folder)[[row for row in row_F if row is not None]]
    return np.flatnonzero(~np.array(known_F, bool)).tolist()


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


def read_whole(file: str) -> tuple[bytes, Stamp]:
    """Return the content of a file, and its stamp after it was read."""
    with open(file, "rb") as opened:
        return opened.read(), stamp_of(os.fstat(opened.fileno()))


def _by_name(listing: Listing) -> dict[str, Stamp]:
    return dict(map(listing.file, range(len(listing.names))))
