"""A cache of shards from URLs, and a thread that fetches those that are read next."""

import contextlib
import fcntl
import hashlib
import math
import os
import re
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.datasets.shards.remote import CHUNK, Options, OtherContentError, open_url, translated

OURS = re.compile(r"aimv2-[0-9a-f]{40}\.(tar|part)")
AGAIN = 5.0  # seconds


class RemoteShard(NamedTuple):
    """A shard behind a URL, with its bytes and the checksum of its content (``Scan.checksum``)."""

    url: str
    size: int
    checksum: str


class ShardCache:
    """A folder of shards fetched from URLs, limited in size. Several processes on one host can share it.

    A shard that a process has open is locked, and not deleted. The others are deleted as needed, those first that were
    opened longest ago. Only files named like ours are deleted.

    Args:
        folder: created if needed; on a local disk.
        limit_bytes: size of all shards together; shards that are being fetched can exceed it for a moment, and those
            that are open at the same time for longer.
        options: of the file system.
    """

    def __init__(self, folder: Path, limit_bytes: int, options: Options) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._options = options

    def open(self, shard: RemoteShard) -> int:
        """Return a locked file descriptor of the shard, fetched if needed.

        Raises:
            OSError, UsageError: as ``open_url``; OtherContentError for another size or content.
            RunFailedError: the shard is larger than the cache.
        """
        if shard.size > self.limit_bytes:
            raise RunFailedError(
                "data",
                f"{shard.url} has {shard.size:,} bytes and does not fit into the shard cache of {self.limit_bytes:,}"
                " bytes; raise data.cache_gb",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        while (opened := self.open_if_here(shard)) is None:
            self._fetch(shard, is_needed=True)
        return opened

    def open_if_here(self, shard: RemoteShard) -> int | None:
        """Return a locked file descriptor of the shard; None if it has not been fetched."""
        try:
            opened = os.open(self._path(shard, "tar"), os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(opened, fcntl.LOCK_SH)
        os.utime(opened)  # the time of the last opening, by which shards are deleted
        return opened

    def forget(self, shard: RemoteShard) -> bool:
        """Delete the copy of a shard; return whether there was one. Who has it open can read it to the end."""
        try:
            self._path(shard, "tar").unlink()
        except FileNotFoundError:
            return False
        return True

    def fetch_ahead(self, shard: RemoteShard, since: float) -> bool:
        """Fetch a shard unless it is here or another process fetches it; return False if there is no room.

        Args:
            since: shards that were opened after this time (of the clock of files) are not deleted.

        Raises:
            OSError, UsageError: as ``open``; FileNotFoundError if there is no folder.
        """
        return self._path(shard, "tar").exists() or self._fetch(shard, is_needed=False, since=since)

    def _fetch(self, shard: RemoteShard, *, is_needed: bool, since: float = math.inf) -> bool:
        """Fetch a shard, unless another process does.

        Args:
            is_needed: wait for that process, and exceed the limit where there is no room.
            since: as in ``fetch_ahead``.

        Returns:
            False if there is no room.
        """
        final, partial = self._path(shard, "tar"), self._path(shard, "part")
        with open(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one process fetches
            except BlockingIOError:
                if is_needed:
                    fcntl.flock(file, fcntl.LOCK_SH)  # which those who read the same file have, too
                return True
            try:
                if not _is_same(partial, file.fileno()):
                    return True
                if final.exists():
                    partial.unlink()  # another process fetched the shard just before we opened this file
                elif self._reserve(shard.size, file, since) or is_needed:
                    _copy(shard, file, self._options)
                    partial.rename(final)
                else:
                    partial.unlink()
                    return False
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # a process that was forked meanwhile keeps the file open
        return True

    def _reserve(self, size: int, file: BinaryIO, since: float) -> bool:
        """Make room for a shard and reserve it, as one process at a time; return whether there is room."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if has_room := self._make_room(size, since):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
        finally:
            os.close(folder)
        return has_room

    def _make_room(self, size: int, since: float) -> bool:
        """Delete shards that no process has open, and what killed processes left; return whether there is room.

        Args:
            since: shards that were opened later are kept.
        """
        fetched, shards = dict[str, int](), []
        # First those that are being fetched: one that is complete by now, under its other name, is found after them.
        for path in self._ours("part"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size:
                    fetched[path.stem] = _size_if_fetched(path)
        for path in self._ours("tar"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                shards.append((state.st_mtime, state.st_size, path))
                fetched.pop(path.stem, None)
        size += sum(fetched.values())
        used = sum(bytes_of for _, bytes_of, _ in shards)
        for opened_at, bytes_of, path in sorted(shards):
            if used + size <= self.limit_bytes or opened_at >= since:
                break
            if _deleted(path):
                used -= bytes_of
        return used + size <= self.limit_bytes

    def _ours(self, suffix: str) -> list[Path]:
        names = (name for name in os.listdir(self.folder) if OURS.fullmatch(name))
        return [self.folder / name for name in names if name.endswith(f".{suffix}")]

    def _path(self, shard: RemoteShard, suffix: str) -> Path:
        name = hashlib.sha256(f"{shard.checksum} {shard.size} {shard.url}".encode()).hexdigest()[:40]
        return self.folder / f"aimv2-{name}.{suffix}"


def _deleted(path: Path) -> bool:
    """Delete a shard unless a process has it open."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
    return True


def _size_if_fetched(partial: Path) -> int:
    """Return the size of a shard that a process is fetching; delete it and return 0 if the process has ended."""
    opened = os.open(partial, os.O_RDWR)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(partial, opened):
            partial.unlink()
        return 0
    except BlockingIOError:
        return os.fstat(opened).st_size
    finally:
        os.close(opened)


def _is_same(path: Path, opened: int) -> bool:
    """True if the path is still the name of the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def _copy(shard: RemoteShard, target: BinaryIO, options: Options) -> None:
    target.seek(0)
    done = crc = 0
    with open_url(shard.url, options) as source:
        while chunk := translated(lambda: source.read(CHUNK)):
            target.write(chunk)
            done += len(chunk)
            crc = zlib.crc32(chunk, crc)
    target.truncate()
    target.flush()
    # Most often the transfer was cut short or the network flipped a bit, so these are errors to be retried.
    if done != shard.size:
        raise OtherContentError(f"it has {done:,} bytes, and had {shard.size:,} when it was indexed")
    if f"{crc:08x}" != shard.checksum:
        raise OtherContentError("its content is not that which was indexed (its checksum is another)")


class FetchAhead:
    """A thread that fetches shards before they are read, as far as the cache has room.

    Several processes that read the same shards share the work. An error here is not one of the run: whoever reads the
    shard fetches it and meets the error.

    Args:
        again: seconds after which a fetch is tried again that failed, or had no room.
    """

    def __init__(self, cache: ShardCache, again: float = AGAIN) -> None:
        self._cache, self._again = cache, again
        self._wanted: Sequence[RemoteShard] = ()
        self._since = 0.0
        self._changed = threading.Condition()
        self._is_closed = False
        self._process = 0

    def expect(self, shards: Sequence[RemoteShard]) -> None:
        """Fetch these shards, in their order, and no longer those that were expected before."""
        self._cache.folder.mkdir(parents=True, exist_ok=True)
        if self._process != os.getpid():  # a fork has no threads, and maybe a lock that nobody releases
            self._process, self._changed, self._is_closed = os.getpid(), threading.Condition(), False
            threading.Thread(target=self._fetch, daemon=True, name="fetches shards").start()
        with self._changed:
            self._wanted, self._since = tuple(shards), time.time()
            self._changed.notify()

    def close(self) -> None:
        """End the thread, once it has done what it is at."""
        if self._process == os.getpid():
            with self._changed:
                self._wanted, self._is_closed = (), True
                self._changed.notify()

    def _fetch(self) -> None:
        done: set[RemoteShard] = set()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or set(self._wanted) - done)
                wanted, since = self._wanted, self._since
                if self._is_closed:
                    return
            done.intersection_update(wanted)
            shard = next(shard for shard in wanted if shard not in done)
            try:
                is_done = self._cache.fetch_ahead(shard, since)
            except (OSError, UsageError):
                is_done = False
            if is_done:
                done.add(shard)
            else:
                with self._changed:
                    if self._wanted is wanted:
                        self._changed.wait(self._again)
