"""The bytes of tar shards: from files, from copies of remote ones, or by requests for parts of these."""

import errno
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.index_folder import command
from aimv2.datasets.shards.cache import FetchAhead, RemoteShard, ShardCache
from aimv2.datasets.shards.index import Index
from aimv2.datasets.shards.patterns import is_here, is_url
from aimv2.datasets.shards.remote import OtherContentError, Patience, describe_url, is_transient, read_url
from aimv2.datasets.shards.scan import stamp_at
from aimv2.datasets.stamps import changes, stamp_of

MAX_OPEN = 128  # shards that are open at a time
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
THREADS, CHUNK = 16, 1024  # that compare shards, and shards that one compares at a time


class ChangedShardError(RunFailedError):
    """What is read of a shard is not what was indexed."""


class ShardFiles:
    """The shards of an index. What is read is of the indexed size and time, or an error.

    Of remote shards those that are expected are fetched whole, ahead of time if there is room for them; of the others
    only what is read.

    Args:
        cache_dir, cache_bytes: where copies of remote shards are, and how much at most; without a folder, none are.
        sleep: waits before a read is repeated.

    Attributes:
        has_remote: True if some shards are behind URLs.
    """

    def __init__(
        self,
        location: Location,
        index: Index,
        cache_dir: str | None,
        cache_bytes: int,
        sleep: Callable[[float], object],
    ) -> None:
        self.has_remote = any(map(is_url, location.shards))
        self._location, self._index = location, index
        self._patience = Patience(sleep)
        self._open: dict[int, _Shard] = {}  # the last opened is the last
        self._expected: dict[int, None] = {}  # remote shards, in the order in which they are read
        self._gives_parts: bool | None = None  # the server of remote shards; not known yet
        self._first_part = threading.Lock()
        self._cache = ShardCache(Path(cache_dir), cache_bytes, location.storage_options) if cache_dir else None
        self._ahead = FetchAhead(self._cache) if self._cache else None
        if self._ahead:
            weakref.finalize(self, self._ahead.close)

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return self._patience.retries

    def expect(self, shards: Sequence[int]) -> None:
        """Say that most of these shards is read next, in their order, and no longer of those before."""
        if not self.has_remote or self._ahead is None:
            return
        expected = {shard: None for shard in shards if is_url(self._index.name(shard))}
        if list(expected) == list(self._expected):
            return
        for shard in self._expected.keys() - expected.keys():
            self._open.pop(shard, None)  # so that it can be deleted
        self._expected = expected
        self._ahead.expect(list(map(self._remote, expected)))

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Return bytes of a shard, fewer at its end.

        Raises:
            RunFailedError: it cannot be read, or has changed.
        """
        try:
            return self._patience.read(lambda: self._read_once(shard, offset, length))
        except OSError as error:
            name, why = self._index.name(shard), error.strerror or str(error)
            if error.errno in NO_SPACE:
                message = f"there is no space for a copy of {name}; data.cache_gb limits them"
                raise RunFailedError("no space", message) from error
            if is_transient(error) and not isinstance(error, OtherContentError):
                message = f"the shard {name} cannot be read: {why}; retry when its disk or server works again"
                raise RunFailedError("node", message) from error
            message = f"if it is gone or has changed, run {command(self._location)}"
            if isinstance(error, PermissionError) and is_url(name):
                message = "check the credentials in the environment"
            raise RunFailedError("data", f"the shard {name} cannot be read: {why}; {message}") from error

    def check(self) -> None:
        """Compare size and time of all shards on this host; those of others are compared when they are fetched.

        Raises:
            UsageError: a shard is missing or changed.
        """
        shards = [shard for shard in range(self._index.num_shards) if is_here(self._index.name(shard))]
        chunks = [shards[start : start + CHUNK] for start in range(0, len(shards), CHUNK)]
        found: dict[str, list[str]] = {"missing": [], "changed": []}
        with ThreadPoolExecutor(THREADS) as pool:  # the time is that of the file system
            for chunk, kinds in zip(chunks, pool.map(self._states, chunks), strict=True):
                for shard, kind in zip(chunk, kinds, strict=True):
                    if kind:
                        found[kind].append(self._index.name(shard))
        if sentence := changes(found):
            raise UsageError(
                f"shards are not as they were indexed ({sentence}); restore them, or run {command(self._location)}"
            )

    def changed(self, shard: int, how: str) -> "ChangedShardError":
        """Return the error for a shard that is not what was indexed."""
        name = self._index.name(shard)
        return ChangedShardError(
            "data", f"the shard {name} has changed since it was indexed ({how}); run {command(self._location)}"
        )

    def forget(self, shard: int) -> bool:
        """Delete the copy of a remote shard, which may be damaged; return whether there was one."""
        self._open.pop(shard, None)
        if self._cache is None or not is_url(self._index.name(shard)):
            return False
        return self._cache.forget(self._remote(shard))

    def _states(self, shards: Sequence[int]) -> list[str]:
        """Return what shards that are files are now: missing, changed, or empty for the same."""
        sizes, versions = (self._index.table[name].take(shards).to_pylist() for name in ("size", "version"))
        return list(map(_state, map(self._index.name, shards), sizes, versions))

    def _read_once(self, shard: int, offset: int, length: int) -> bytes:
        opened = self._open.pop(shard, None) or self._open_shard(shard)
        if opened is None:
            return self._read_part(shard, offset, length)
        content = os.pread(opened.descriptor, length, offset)
        while len(content) < length and (
            more := os.pread(opened.descriptor, length - len(content), offset + len(content))
        ):
            content += more
        if not opened.is_copy or shard in self._expected:  # other copies are left to be deleted
            self._open[shard] = opened  # after an error it is opened again
        if len(self._open) > MAX_OPEN:
            for oldest in list(self._open)[:-MAX_OPEN]:
                self._open.pop(oldest, None)
        return content

    def _read_part(self, shard: int, offset: int, length: int) -> bytes:
        """Return bytes of a remote shard without the rest of it."""
        name, size, _ = self._remote(shard)
        length = min(length, size - offset)
        if self._gives_parts is None:
            with self._first_part:  # since it may be a whole shard, one request at a time
                content = read_url(name, offset, length, self._location.storage_options)
                self._gives_parts = len(content) <= length
        else:
            content = read_url(name, offset, length, self._location.storage_options)
        if len(content) > length:
            return content[offset : offset + length]
        if len(content) < length:
            raise OtherContentError(f"it ends {length - len(content):,} bytes too early")
        return content

    def _open_shard(self, shard: int) -> "_Shard | None":
        """Open a shard; None for one that is remote, and of which parts are read."""
        name = self._index.name(shard)
        size, version = (self._index.table[column][shard].as_py() for column in ("size", "version"))
        descriptor = self._open_remote(shard) if is_url(name) else os.open(name, os.O_RDONLY)
        if descriptor is None:
            return None
        opened = _Shard(descriptor, is_copy=is_url(name))
        found = os.fstat(descriptor)
        if found.st_size != size:
            raise self.changed(shard, f"it has {found.st_size:,} bytes, and had {size:,}")
        if not is_url(name) and not stamp_of(found).is_same(stamp_at(size, version)):
            raise self.changed(shard, "its time is another")
        return opened

    def _open_remote(self, shard: int) -> int | None:
        """Return the descriptor of a copy; fetch it if most of the shard is read, or the server gives nothing less."""
        if self._cache is None:
            return None
        if shard in self._expected or self._gives_parts is False:
            return self._cache.open(self._remote(shard))
        return self._cache.open_if_here(self._remote(shard))

    def _remote(self, shard: int) -> RemoteShard:
        size, checksum = (self._index.table[column][shard].as_py() for column in ("size", "checksum"))
        return RemoteShard(self._index.name(shard), size, checksum)


def _state(name: str, size: int, version: str) -> str:
    try:
        if is_url(name):
            return "" if describe_url(name, {}) == (size, version) else "changed"
        return "" if stamp_of(os.stat(name)).is_same(stamp_at(size, version)) else "changed"
    except OSError:
        return "missing"


class _Shard:
    """An open file, closed when it is no longer used, so that threads can share it."""

    def __init__(self, descriptor: int, *, is_copy: bool) -> None:
        self.descriptor = descriptor
        self.is_copy = is_copy

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # os is gone at the end of a process
        close(self.descriptor)
