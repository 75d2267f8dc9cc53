"""Reads that outlast faults of a file system or network, and a cache of shards from URLs."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
import zlib
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeVar

from aimv2.base.errors import RunFailedError, UsageError

WAITS = (0.1, 0.4, 1.5, 4.0)  # seconds before each new attempt
TRANSIENT = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
}
CHUNK = 4 << 20
OURS = re.compile(r"aimv2-[0-9a-f]{40}\.(tar|part)")

Value = TypeVar("Value")


class Patience:
    """Attempts at reads that can fail for a moment.

    Attributes:
        retries: attempts that were repeated.
    """

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        self.retries = 0
        self._sleep = sleep

    def read(self, action: Callable[[], Value]) -> Value:
        """Return the result of the action; repeat it after a transient error, for some seconds in all."""
        for wait in WAITS:
            try:
                return action()
            except OSError as error:
                if not is_transient(error):
                    raise
            self.retries += 1
            self._sleep(wait)
        return action()


def is_transient(error: OSError) -> bool:
    """True if the error can go away: of a network, a server or a disk, but not a missing file."""
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in TRANSIENT


def open_url(url: str) -> BufferedIOBase:
    """Open a file behind a URL for reading.

    Raises:
        UsageError: no installed package reads this kind of URL.
        OSError: the file cannot be read; ConnectionError for errors of the client library.
    """
    system, path = file_system(url)
    file: BufferedIOBase = translated(lambda: system.open(path, "rb"))
    return file


def describe_url(url: str) -> tuple[int, str]:
    """Return the size of a file behind a URL, and a text that changes with its content; errors as ``open_url``."""
    system, path = file_system(url)
    return translated(lambda: (int(system.size(path)), str(system.ukey(path))))


class ShardCache:
    """A folder of shards fetched from URLs, limited in size. Several processes on one host can share it.

    The shards that were opened longest ago are deleted first; a process that has one open can read it to the end. Only
    files named like ours are deleted.

    Args:
        folder: created if needed; on a local disk.
        limit_bytes: size of all shards together; shards that are being fetched can exceed it for a moment.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def open(self, url: str, size: int, checksum: str) -> int:
        """Return a file descriptor of the shard, fetched if needed.

        Args:
            size: bytes that it must have.
            checksum: of the content that it must have (``Scan.checksum``).

        Raises:
            OSError, UsageError: as ``open_url``; ConnectionError also for another size or content.
            RunFailedError: the shard is larger than the cache.
        """
        if size > self.limit_bytes:
            raise RunFailedError(
                "data", f"{url} has {size:,} bytes and does not fit into the shard cache of {self.limit_bytes:,} bytes"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{checksum} {size} {url}".encode()).hexdigest()[:40]
        final, partial = (self.folder / f"aimv2-{name}.{suffix}" for suffix in ("tar", "part"))
        while True:
            with contextlib.suppress(FileNotFoundError):
                opened = os.open(final, os.O_RDONLY)
                os.utime(opened)  # the time of the last opening, by which shards are deleted
                return opened
            opened = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX)  # one process fetches and the others wait
                if _is_same(partial, opened):
                    if not final.exists():
                        self._make_room(size)
                        _fetch(url, opened, size, checksum)
                        partial.rename(final)
                        fcntl.flock(opened, fcntl.LOCK_UN)
                        return opened
                    partial.unlink()  # another process fetched the shard just before we opened this file
            except BaseException:
                os.close(opened)
                raise
            os.close(opened)  # while we waited, another process has fetched the shard or given up

    def _make_room(self, size: int) -> None:
        """Delete the shards that were opened longest ago until there is room, and what killed processes left."""
        shards = []
        for path in self.folder.iterdir():
            if OURS.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):
                    if path.suffix == ".tar":
                        state = path.stat()
                        shards.append((state.st_mtime_ns, state.st_size, path))
                    elif path.stat().st_size:
                        size += _size_if_fetched(path)
        used = sum(bytes_of for _, bytes_of, _ in shards)
        for _, bytes_of, path in sorted(shards):
            if used + size <= self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            used -= bytes_of


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


def _fetch(url: str, opened: int, size: int, checksum: str) -> None:
    os.ftruncate(opened, 0)
    done = crc = 0
    with open_url(url) as source, open(opened, "wb", closefd=False) as target:
        while chunk := translated(lambda: source.read(CHUNK)):
            target.write(chunk)
            done += len(chunk)
            crc = zlib.crc32(chunk, crc)
    # Most often the transfer was cut short or the network flipped a bit, so these are errors to be retried.
    if done != size:
        raise ConnectionError(f"it has {done:,} bytes, and had {size:,} when it was indexed")
    if f"{crc:08x}" != checksum:
        raise ConnectionError("its content is not that which was indexed (its checksum is another)")


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it; errors as ``open_url``."""
    from fsspec.core import url_to_fs

    try:
        system, path = translated(lambda: url_to_fs(url))
    except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not installed
        raise UsageError(f"{url} cannot be read: {error}") from error
    return system, path


def translated(action: Callable[[], Value]) -> Value:
    """Return the action's result; errors of client libraries become ConnectionError."""
    try:
        return action()
    except (OSError, ImportError, ValueError):
        raise
    except Exception as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
