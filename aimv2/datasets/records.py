"""Records: the undecoded samples of a location, by row. Letters: B rows, P parts."""

import errno
import hashlib
import json
import os
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.description import IMAGES, Location
from aimv2.datasets.folder_layout import folder_stamps, write_folder
from aimv2.datasets.index import (
    IMAGE,
    Content,
    DataPart,
    Index,
    IndexWriter,
    OnProgress,
    Stamp,
    command,
    difference,
    stamp_at,
    stamp_of,
    writing,
)
from aimv2.datasets.remote import (
    CopiesFolder,
    OtherContentError,
    Patience,
    RemoteFile,
    is_transient,
    is_url,
    read_url,
)
from aimv2.datasets.tar_shards import block_rows_of, shard_stamps, write_shards

# Where any row is read as fast as the next one. The order keeps 8 permutations of so many numbers of a source: 17 MB.
MAX_BLOCK_ROWS = 2**18
MAX_FIELDS = 20  # that an error lists
MAX_OPEN = 128  # files that are open at a time
CONCURRENCY = 16  # requests to servers at a time
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class ChangedFileError(RunFailedError):
    """What is read of a file is not what was indexed."""


class Records:
    """The samples of an indexed location, each read where the index says; what is read has the indexed checksum.

    Opened objects can be pickled and read by several processes and threads. A field is named as in a description:
    ``txt`` is a text member, ``json.caption`` a key of the JSON member, and in tables ``caption`` is a column.
    ``folder`` is the name of the folder that contains an image.
    """

    block_rows: int  # whose order is shuffled together; blocks of them are read one after the other
    concurrency: int = 1  # reads at a time, by threads: several where each is a request to another host

    def __init__(
        self,
        location: Location,
        cache_dir: str | None = None,
        cache_bytes: int = 0,
        *,
        kept_N: np.ndarray | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Open the index of a location.

        Of remote files at most ``cache_bytes`` are saved in ``cache_dir``, without a folder none. Samples are the rows
        ``kept_N``, int64 [N]; None for all.
        """
        self._arguments = location, cache_dir, cache_bytes, sleep
        self._location, self._index, self._kept_N = location, Index(location), kept_N
        self._require_table()
        self._images: tuple[str, ...] = (IMAGE, *IMAGES)
        self.block_rows = min(len(self._index), MAX_BLOCK_ROWS)
        if location.shards:
            self._images = (location.image,) if location.image else IMAGES
            if not set(self._images) & set(self._index.names):
                wanted, names = " or ".join(self._images), ", ".join(sorted(self._index.names))
                raise UsageError(f"the shards have no member {wanted}; set image to one of their members: {names}")
            self.block_rows = block_rows_of(np.diff(self._index.first_row))
        self._patience = Patience(sleep)
        self._opened: dict[int, _OpenFile] = {}  # the last used is the last
        self._last_json: tuple[int, str, Any] = (-1, "", None)
        self._expected: dict[int, None] = {}  # remote files that are read next, in this order
        self._gives_parts = True  # the server of remote files
        self._copies: CopiesFolder | None = None
        if any(map(is_url, location.shards)):
            self.concurrency = CONCURRENCY
            if cache_dir:
                self._copies = CopiesFolder(Path(cache_dir), cache_bytes, location.storage_options)
                weakref.finalize(self, self._copies.fetch_ahead, ())

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (*self._arguments, self._kept_N, self.digest())

    @property
    def retries(self) -> int:
        return self._patience.retries

    def __len__(self) -> int:
        return len(self._index if self._kept_N is None else self._kept_N)

    def part_edges(self) -> np.ndarray:
        """Return the first rows of the parts that are fetched whole, and the end of the last one: int64 [P + 1]."""
        is_whole = self._kept_N is None and self._location.shards
        return self._index.first_row if is_whole else np.array([0, len(self)])

    def expect(self, blocks: Sequence[range]) -> None:
        """Say that most rows of these blocks are read next, in the order of the blocks; others are read one by one."""
        if not self._copies or self._kept_N is not None:
            return
        edges = (
            np.searchsorted(self._index.first_row, [block[0], block[-1]], side="right") for block in blocks if block
        )
        expected = dict.fromkeys(shard - 1 for first, last in edges for shard in range(first, last + 1))
        if list(expected) != list(self._expected):
            self._expected = expected
            self._opened.clear()  # so that copies that are not needed take no space once they are deleted
            self._copies.fetch_ahead([self._remote(shard) for shard in expected if is_url(self._index.path(shard))])

    def key(self, row: int) -> str:
        return self._index.key(self._at(row))

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        """Return ``address.hash64`` of the keys: uint64 [B]."""
        return np.asarray(self._index.hash_N[row_B if self._kept_N is None else self._kept_N[row_B]], np.uint64)

    def image(self, row: int) -> bytes:
        contents = self._index.contents(self._at(row))
        for name in self._images:
            if name in contents and (content := self._content(contents[name])) is not None:
                return content
        raise BadSampleError("missing image", self._name(contents[IMAGE]) if IMAGE in contents else self.key(row))

    def field(self, row: int, name: str) -> Any:
        """Return the value of a field: text, a number, a list or None if the sample has no such field."""
        number = self._at(row)
        if not self._location.shards and name in (values := self._index.fields_of(number)):
            return values[name]
        contents = self._index.contents(number)
        if name == "folder" and self._location.folder:
            return os.path.basename(os.path.dirname(self._name(contents[IMAGE]))) or None
        words = name.split(".")
        for end in range(len(words), 0, -1):
            member = ".".join(words[:end]).lower()
            if member in contents and member != IMAGE:
                where = f"{self.key(row)}: {member}"
                if words[end:]:
                    value = self._json(number, member, contents[member], where)
                    for word in words[end:]:
                        value = value.get(word) if isinstance(value, dict) else None
                    return value
                content = self._content(contents[member])
                try:
                    return None if content is None else content.decode()
                except UnicodeDecodeError as error:
                    raise BadSampleError("missing caption", f"{where} is not UTF-8: {error}") from error
        return None

    def fields(self) -> list[str]:
        """Return the fields that some sample has; a JSON member stands for all its keys."""
        folder = ["folder"] if self._location.folder else []
        return [*self._index.fields, *folder, *(name for name in self._index.names if name != IMAGE)]

    def other_fields(self, name: str) -> str:
        """Return the fields that there are, in words, if none has this name or contains it; else an empty text."""
        words = name.split(".")
        fields = self.fields()
        if {".".join(words[: end + 1]) for end in range(len(words))} & set(fields):
            return ""
        shown = sorted(fields, key=lambda field: field.lower() != name.lower())[:MAX_FIELDS]
        return ", ".join(shown) + (", …" if len(fields) > MAX_FIELDS else "")

    def check(self) -> None:
        """Compare sizes and times of files with those that were indexed."""
        self._require_table()
        stamps = shard_stamps if self._location.shards else folder_stamps
        now = stamps(self._location, self._index)
        if sentence := difference(self._index.stamps(), now, Stamp.is_same):
            place = self._location.folder or self._index.base
            raise UsageError(
                f"{place} is not as it was indexed ({sentence}); restore it, or run {command(self._location)}"
            )

    def parts(self) -> list[DataPart]:
        return self._index.parts

    def digest(self) -> str:
        """Return a digest of the content."""
        return hashlib.sha256(repr([tuple(part) for part in self.parts()]).encode()).hexdigest()

    def _at(self, row: int) -> int:
        return row if self._kept_N is None else int(self._kept_N[row])

    def _require_table(self) -> None:
        """Raise a UsageError if the table has changed, whose rows are in the index."""
        table, before = self._location.table, self._index.facts.get("tables")
        if table and not (before and stamp_at(table).is_same(Stamp(*before[0]))):
            raise UsageError(f"{table} has changed since it was indexed; run {command(self._location)}")

    def _name(self, content: Content) -> str:
        return str(self._index.files["name"][content.file].as_py())

    def _json(self, row: int, member: str, content: Content, where: str) -> Any:
        last = self._last_json  # of several fields of a sample; other threads may replace it
        if last[:2] != (row, member):
            data = self._content(content)
            self._last_json = last = row, member, None if data is None else json_of(data, where)
        return last[2]

    def _content(self, content: Content) -> bytes | None:
        """Return the bytes of a content; None if its file was missing when it was indexed."""
        if not content.length and self._index.files["size"][content.file].as_py() < 0:
            return None
        try:
            return self._checked(content)
        except ChangedFileError:
            if not self._forget(content.file):
                raise
            return self._checked(content)

    def _checked(self, content: Content) -> bytes:
        try:
            data = self._patience.read(lambda: self._read(content))
        except OSError as error:
            raise self._unreadable(content.file, error) from error
        if len(data) != content.length or crc32(data) != content.checksum:
            raise self._changed(content.file, "it has another content")
        return data

    def _read(self, content: Content) -> bytes:
        file, offset, length, _ = content
        opened = self._opened.pop(file, None) or self._open_file(file)
        if opened is None:
            return self._read_part(self._remote(file), offset, length)
        self._opened[file] = opened
        for oldest in list(self._opened)[:-MAX_OPEN]:
            self._opened.pop(oldest, None)
        data = b""
        while len(data) < length:
            try:
                more = os.pread(opened.descriptor, length - len(data), offset + len(data))
            except OSError:
                self._opened.clear()  # after an error files are opened again
                raise
            if not more:
                break
            data += more
        return data

    def _open_file(self, file: int) -> "_OpenFile | None":
        """Open a file of this host, or the copy of a remote one; None if there is none, so that parts are read."""
        path = self._index.path(file)
        stamp = Stamp(*(self._index.files[column][file].as_py() for column in Stamp._fields))
        if is_url(path):
            remote = self._remote(file)
            if self._copies is None:
                return None
            copy = self._copies.path(remote)
            if file in self._expected or not self._gives_parts:
                copy = self._copies.fetch(remote)
            elif not copy.exists():
                return None
            return _OpenFile(str(copy))
        opened = _OpenFile(path)
        if not stamp_of(os.fstat(opened.descriptor)).is_same(stamp):
            raise self._changed(file, "its size or time is another")
        return opened

    def _read_part(self, remote: RemoteFile, offset: int, length: int) -> bytes:
        """Return bytes of a remote file without the rest of it."""
        content = read_url(remote.url, offset, length, self._location.storage_options)
        if len(content) > length:
            self._gives_parts = False  # the next file is fetched whole
            content = content[offset : offset + length]
        if len(content) < length:
            raise OtherContentError(f"it ends {length - len(content):,} bytes too early")
        return content

    def _remote(self, file: int) -> RemoteFile:
        size, checksum = (self._index.files[name][file].as_py() for name in ("size", "checksum"))
        return RemoteFile(self._index.path(file), size, checksum)

    def _forget(self, file: int) -> bool:
        """Delete the copy of a remote file, which may be damaged; return whether there was one."""
        self._opened.clear()
        if self._copies is None or not (copy := self._copies.path(self._remote(file))).exists():
            return False
        copy.unlink(missing_ok=True)
        return True

    def _changed(self, file: int, how: str) -> ChangedFileError:
        path, again = self._index.path(file), command(self._location)
        return ChangedFileError("data", f"{path} has changed since it was indexed ({how}); restore it, or run {again}")

    def _unreadable(self, file: int, error: OSError) -> RunFailedError:
        name, why = self._index.path(file), error.strerror or str(error)
        if error.errno in NO_SPACE:
            return RunFailedError("no space", f"there is no space for a copy of {name}; data.cache_gb limits them")
        if is_transient(error) and not isinstance(error, OtherContentError):
            message = f"{name} cannot be read: {why}; retry when its disk or server works again"
            return RunFailedError("node", message)
        message = f"if it is gone or has changed, run {command(self._location)}"
        if isinstance(error, PermissionError) and is_url(name):
            message = "check the credentials in the environment"
        return RunFailedError("data", f"{name} cannot be read: {why}; {message}")


class _OpenFile:
    """An open file, closed when it is no longer used, so that threads can share it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # os is gone at the end of a process
        if hasattr(self, "descriptor"):
            close(self.descriptor)


def write_index(location: Location, workers: int, on_progress: OnProgress) -> IndexWriter:
    """Write the index of a location, without a selection, by several processes."""
    write = write_shards if location.shards else write_folder
    with writing(location) as writer:
        write(location, writer, workers, on_progress)
    return writer


def _reopened(
    location: Location,
    cache_dir: str | None,
    cache_bytes: int,
    sleep: Callable[[float], object],
    kept_N: np.ndarray | None,
    digest: str,
) -> Records:
    """Open records again in another process; RunFailedError if they were indexed anew."""
    records = Records(location, cache_dir, cache_bytes, kept_N=kept_N, sleep=sleep)
    if records.digest() != digest:
        raise RunFailedError("data", f"the index {location.index} was replaced by that of other data during the run")
    return records


def json_of(content: bytes, where: str) -> Any:
    """Return the value of a JSON member; one that is not JSON is a bad sample."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadSampleError("broken json", f"{where}: {error}") from error
