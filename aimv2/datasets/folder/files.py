"""What the files of a folder were when they were indexed. Letters: F files of a folder."""

import os
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.folder.walk import Listing, Walk, is_within
from aimv2.datasets.shards.remote import Patience
from aimv2.datasets.stamps import CONTENT, Stamp, changes, stamp_of

FILES, FOLDERS = "files.arrow", "folders.arrow"


class IndexedFile(NamedTuple):
    """What an index says of a file; ``checksum`` is the CRC-32 of its content."""

    stamp: Stamp
    checksum: int


class Files:
    """The files of an index, memory-mapped.

    Attributes:
        folder_stamps: those of the listings, by folder.
    """

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
        names = folders["folder"].to_pylist()
        self._rows = dict(zip(names, map(range, [0, *end], end), strict=False))
        # An index of an earlier version of the code has no such column.
        stamps = folders["stamp"].to_pylist() if "stamp" in folders.column_names else [None] * len(names)
        self.folder_stamps = {name: stamp and Stamp(*stamp) for name, stamp in zip(names, stamps, strict=True)}

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

    def difference(self, walk: Walk) -> str:
        """Return one sentence on the files that are missing, new or changed; empty if there is no difference."""
        names: dict[str, list[str]] = {"missing": [], "new": [], "changed": []}
        left = dict.fromkeys(self._rows)
        for now in walk:
            left.pop(now.folder, None)
            before = self.listing(now.folder)
            if now.names == before.names and np.array_equal(now.stamp_F3[:, CONTENT], before.stamp_F3[:, CONTENT]):
                continue
            old, new = _by_name(before), _by_name(now)
            names["missing"] += [name for name in old if name not in new]
            names["new"] += [name for name in new if name not in old]
            names["changed"] += [name for name, stamp in new.items() if name in old and not stamp.is_same(old[name])]
        gone = [folder for folder in left if folder not in walk.unchanged]
        names["missing"] += [folder + name for folder in gone for name in self.listing(folder).names]
        return changes(names)


class IndexedFolder:
    """A folder whose files were indexed. What is read is what was indexed, or an error.

    Args:
        index: the folder of the index, with what ``checksums.write_files`` wrote.
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

    @property
    def folder_stamps(self) -> dict[str, Stamp | None]:
        """The stamps of the folders when they were listed for the index (``Walk.known``)."""
        return self._files.folder_stamps

    def named(self) -> dict[str, set[str]]:
        """Return the names of all files by their folder."""
        return {each.folder: set(each.names) for each in self._files.listings()}

    def check(self, walk: Walk) -> None:
        """Compare the index with what the folder has now.

        Raises:
            UsageError: a file is missing, new or changed.
        """
        if sentence := self._files.difference(walk):
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


def read_whole(file: str) -> tuple[bytes, Stamp]:
    """Return the content of a file, and its stamp after it was read."""
    with open(file, "rb") as opened:
        return opened.read(), stamp_of(os.fstat(opened.fileno()))


def _by_name(listing: Listing) -> dict[str, Stamp]:
    return dict(map(listing.file, range(len(listing.names))))
