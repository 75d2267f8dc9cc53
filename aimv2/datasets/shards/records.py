"""The samples of tar shards, read in place. Letters: B rows, S shards."""

import errno
import os
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.index_folder import command
from aimv2.datasets.records import DataPart, Records, json_of, reopened, text_of, value_at
from aimv2.datasets.shards.build import build_index
from aimv2.datasets.shards.cache import FetchAhead, RemoteShard, ShardCache
from aimv2.datasets.shards.index import IMAGES, open_index
from aimv2.datasets.shards.patterns import is_here, is_url
from aimv2.datasets.shards.remote import OtherContentError, Patience, describe_url, is_transient, read_url
from aimv2.datasets.shards.scan import MEMBER, hash_key, split, stamp_at
from aimv2.datasets.shards.tar import BLOCK, MAX_EXTENDED, Member, TarError, first_member
from aimv2.datasets.stamps import changes, stamp_of

BLOCK_ROWS = 65_536
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
MAX_OPEN = 128  # shards that are open at a time
HEADERS = 4 * BLOCK  # bytes of most chains of headers, and more
THREADS, CHUNK = 16, 1024  # that compare shards or read remote ones, and shards that one compares at a time
MAX_SAMPLE = 2**26  # bytes that are read at once; the rest of a larger sample is read by member


class ShardRecords(Records):
    """Samples of tar shards.

    A field is a member, such as ``txt``, or a key of a JSON member, such as ``json.caption`` or ``json.meta.width``.
    Every member is read with its headers: its name, size and checksum must be those of the index. Of remote shards,
    those that ``expect`` names are fetched whole, before they are read if there is room for them; of others only the
    members are.

    Attributes:
        block_rows: about 65,536: a multiple of the samples of most shards.
        extensions: the members that samples have.
        retries: reads that were repeated after a transient error, in this process.
    """

    build = staticmethod(build_index)

    def __init__(
        self,
        location: Location,
        cache_dir: str | None = None,
        cache_bytes: int = 0,
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Open the index (``RecordsReader``).

        Args:
            sleep: waits before a read is repeated.

        Raises:
            UsageError: there is no index, it does not fit the location, or samples have no image.
        """
        self._arguments: dict[str, Any] = {"cache_dir": cache_dir, "cache_bytes": cache_bytes, "sleep": sleep}
        self._location = location
        self._index = open_index(location)
        self.extensions = tuple(self._index.extensions)
        self._columns = {extension: column for column, extension in enumerate(self.extensions)}
        images = (location.image,) if location.image else IMAGES
        self._images = [extension for extension in images if extension in self._columns]
        if not self._images:
            wanted, found = " or ".join(images), ", ".join(self.extensions)
            raise UsageError(f"the shards have no member {wanted}; set image to one of their members: {found}")
        self.block_rows = block_rows_of(np.diff(self._index.first_row))
        self._patience = Patience(sleep)
        self._has_remote = any(map(is_url, location.shards))
        if self._has_remote:
            self.concurrency = THREADS
        self._gives_parts = True  # the server of remote shards
        self._expected: dict[int, None] = {}  # remote shards, in the order in which they are read
        self._cache = ShardCache(Path(cache_dir), cache_bytes, location.storage_options) if cache_dir else None
        self._ahead = FetchAhead(self._cache) if self._cache else None
        self._open: dict[int, _Shard] = {}  # the last opened is the last
        self._first_rows = self._index.first_row.tolist()
        # Indexing a structured array takes longer than reading a member.
        self._row_bytes = self._index.rows.view(np.uint8).data
        self._row_struct = struct.Struct(f"<QI{MEMBER * len(self.extensions)}I")
        self._last_sample: tuple[int, int, bytes] = (-1, 0, b"")  # row, first byte in the shard, and content
        self._last_json: tuple[int, str, Any] = (-1, "", None)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (type(self), self._location, self._arguments, self.digest())

    @property
    def retries(self) -> int:
        return self._patience.retries

    def __len__(self) -> int:
        return len(self._index.rows)

    def part_edges(self) -> np.ndarray:
        return self._index.first_row

    def expect(self, blocks: Sequence[range]) -> None:
        if not self._has_remote or self._ahead is None:
            return
        shards = dict.fromkeys(shard for block in blocks for shard in self._shards_of(block))
        expected = {shard: None for shard in shards if is_url(self._index.name(shard))}
        if list(expected) == list(self._expected):
            return
        for shard in self._expected.keys() - expected.keys():
            self._open.pop(shard, None)  # so that it can be deleted
        self._expected = expected
        self._ahead.expect(list(map(self._remote_shard, expected)))

    def _shards_of(self, block: range) -> range:
        return range(self._shard_of(block[0]), self._shard_of(block[-1]) + 1) if block else range(0)

    def key(self, row: int) -> str:
        shard = self._shard_of(row)
        hashed, block, *_ = self._row_struct.unpack_from(self._row_bytes, row * self._row_struct.size)
        content = self._read(shard, block * BLOCK, HEADERS)
        key, _, _, _ = self._checked(row, shard, block * BLOCK, 0, hashed, content)
        return key

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._index.rows["key"][row_B], np.uint64)

    def image(self, row: int) -> bytes:
        for extension in self._images:
            if (content := self._member(row, extension, with_others=True)) is not None:
                return content
        raise BadSampleError("missing image", self.key(row))

    def field(self, row: int, name: str) -> Any:
        extension, path = self._split_field(name)
        if path:
            return value_at(self._json(row, extension), path)
        content = self._member(row, extension)
        return None if content is None else text_of(content, lambda: f"{self.key(row)}.{extension}")

    def fields(self) -> list[str]:
        return list(self.extensions)

    def check(self, *, every_file: bool = False) -> None:
        """Compare size and time of all shards on this host; those of others are compared when they are fetched."""
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

    def _states(self, shards: Sequence[int]) -> list[str]:
        """Return what shards that are files are now: missing, changed, or empty for the same."""
        sizes, versions = (self._index.table[name].take(shards).to_pylist() for name in ("size", "version"))
        return list(map(_state, map(self._index.name, shards), sizes, versions))

    def parts(self) -> list[DataPart]:
        return self._index.parts()

    def digest(self) -> str:
        return self._index.digest()  # without an object for each of hundreds of thousands of shards

    def _split_field(self, name: str) -> tuple[str, list[str]]:
        """Return the member of a field, the longest that samples have, and the path within its JSON."""
        words = name.split(".")
        for end in range(len(words), 0, -1):
            extension = ".".join(words[:end]).lower()
            if extension in self._columns:
                return extension, words[end:]
        return name, []

    def _json(self, row: int, extension: str) -> Any:
        last = self._last_json  # of several fields of a sample; other threads may replace it
        if last[:2] != (row, extension):
            content = self._member(row, extension)
            value = None if content is None else json_of(content, lambda: f"{self.key(row)}.{extension}")
            self._last_json = last = row, extension, value
        return last[2]

    def _member(self, row: int, extension: str, *, with_others: bool = False) -> bytes | None:
        """Return the content of a member; None if the sample has no such member.

        Args:
            with_others: read the whole sample at once, and keep it for the members that are read next.
        """
        column = self._columns.get(extension)
        if column is None:
            return None
        shard = self._shard_of(row)
        key, start, *members = self._row_struct.unpack_from(self._row_bytes, row * self._row_struct.size)
        block, size, checksum = members[MEMBER * column : MEMBER * (column + 1)]
        if not block:
            return None
        at = (start + block - 1) * BLOCK
        if with_others and self._last_sample[0] != row and _is_together(members):
            self._last_sample = (row, start * BLOCK, self._read_sample(shard, start * BLOCK, members))
        kept, first, sample = self._last_sample
        content = sample[at - first :][: HEADERS + size] if kept == row else self._read(shard, at, HEADERS + size)
        _, found, member, content = self._checked(row, shard, at, size, key, content)
        data = content[member.data - at : member.data - at + size]
        if found != extension or member.size != size or len(data) != size:
            raise self._changed(shard, f"the member {extension} of sample {row} is not where it was")
        if crc32(data) != checksum:
            raise self._changed(shard, f"the member {extension} of sample {row} has another content")
        return data

    def _read_sample(self, shard: int, start: int, members: Sequence[int]) -> bytes:
        """Read all members of a sample at once, with their headers, up to MAX_SAMPLE bytes."""
        ends = [
            (block - 1) * BLOCK + HEADERS + size
            for block, size in zip(members[::MEMBER], members[1::MEMBER], strict=True)
            if block
        ]
        return self._read(shard, start, min(max(ends), MAX_SAMPLE))

    def _checked(
        self, row: int, shard: int, start: int, size: int, key: int, content: bytes
    ) -> tuple[str, str, Member, bytes]:
        """Return key, extension, headers and content (headers included) of the member at a byte of the shard.

        Args:
            key: the hash of the sample's key.
            content: bytes from there on, of which more are read if they are too few.

        Raises:
            RunFailedError: the member there is not of this sample.
        """
        try:
            member = first_member(content, base=start)
            if member is None or len(content) < member.data - start + size:  # names of any length are rare
                content = self._read(shard, start, 4 * MAX_EXTENDED + size)
                member = first_member(content, base=start)
        except TarError as error:
            raise self._changed(shard, f"it {error}") from error
        parts = split(member.name) if member is not None and not member.kind else None
        if member is None or parts is None or hash_key(parts[0]) != key:
            raise self._changed(shard, f"sample {row} is not where it was")
        return *parts, member, content

    def _shard_of(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return bisect_right(self._first_rows, row) - 1

    def _read(self, shard: int, offset: int, length: int) -> bytes:
        """Return bytes of a shard, fewer at its end."""
        try:
            return self._patience.read(lambda: self._read_once(shard, offset, length))
        except OSError as error:
            name, why = self._index.name(shard), error.strerror or str(error)
            if error.errno in NO_SPACE:
                raise RunFailedError(
                    "no space", f"there is no space for a copy of {name}; data.cache_gb limits them"
                ) from error
            if is_transient(error) and not isinstance(error, OtherContentError):
                message = f"the shard {name} cannot be read: {why}; retry when its disk or server works again"
                raise RunFailedError("node", message) from error
            raise RunFailedError(
                "data",
                f"the shard {name} cannot be read: {why}; if it is gone or has changed, run {command(self._location)}",
            ) from error

    def _read_once(self, shard: int, offset: int, length: int) -> bytes:
        opened = self._open.pop(shard, None) or self._open_shard(shard)
        if opened is None:
            return self._read_part(shard, offset, length)
        content = os.pread(opened.descriptor, length, offset)
        while len(content) < length and (
            more := os.pread(opened.descriptor, length - len(content), offset + len(content))
        ):
            content += more
        self._open[shard] = opened  # after an error it is opened again
        for oldest in list(self._open)[:-MAX_OPEN]:
            self._open.pop(oldest, None)
        return content

    def _read_part(self, shard: int, offset: int, length: int) -> bytes:
        """Return bytes of a remote shard without the rest of it."""
        name, size, _ = self._remote_shard(shard)
        length = min(length, size - offset)
        content = read_url(name, offset, length, self._location.storage_options)
        if len(content) > length:  # the server only gives whole files
            self._gives_parts = False
            return content[offset : offset + length]
        if len(content) < length:
            raise OtherContentError(f"it ends {length - len(content):,} bytes too early")
        return content

    def _open_shard(self, shard: int) -> "_Shard | None":
        """Open a shard; None for one that is remote, and whose members are read apart from each other."""
        name = self._index.name(shard)
        size, version = (self._index.table[column][shard].as_py() for column in ("size", "version"))
        if is_url(name):
            descriptor = self._open_remote(shard)
            if descriptor is None:
                return None
            opened = _Shard(descriptor)
        else:
            opened = _Shard(os.open(name, os.O_RDONLY))
        found = os.fstat(opened.descriptor)
        if found.st_size != size:
            raise self._changed(shard, f"it has {found.st_size:,} bytes, and had {size:,}")
        if not is_url(name) and not stamp_of(found).is_same(stamp_at(size, version)):
            raise self._changed(shard, "its time is another")
        return opened

    def _open_remote(self, shard: int) -> int | None:
        """Return the descriptor of a copy; fetch it if most of the shard is read, or the server gives nothing less."""
        if self._cache is None:
            return None
        remote = self._remote_shard(shard)
        if shard in self._expected or not self._gives_parts:
            return self._cache.open(remote)
        return self._cache.open_if_here(remote)

    def _remote_shard(self, shard: int) -> RemoteShard:
        size, checksum = (self._index.table[column][shard].as_py() for column in ("size", "checksum"))
        return RemoteShard(self._index.name(shard), size, checksum)

    def _changed(self, shard: int, how: str) -> RunFailedError:
        return RunFailedError(
            "data",
            f"the shard {self._index.name(shard)} has changed since it was indexed ({how}); run"
            f" {command(self._location)}",
        )


def _is_together(members: Sequence[int]) -> bool:
    """True if the members of a sample are one after the other, as in shards of webdataset."""
    blocks, sizes = members[::MEMBER], members[1::MEMBER]
    num_bytes = sum(HEADERS + size for block, size in zip(blocks, sizes, strict=True) if block)
    return max(blocks) * BLOCK <= 2 * num_bytes


def _state(name: str, size: int, version: str) -> str:
    try:
        if is_url(name):
            return "" if describe_url(name, {}) == (size, version) else "changed"
        return "" if stamp_of(os.stat(name)).is_same(stamp_at(size, version)) else "changed"
    except OSError:
        return "missing"


class _Shard:
    """An open file, closed when it is no longer used, so that threads can share it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def block_rows_of(num_samples_S: np.ndarray) -> int:
    """Return the multiple of the usual number of samples of a shard that is closest to ``BLOCK_ROWS``."""
    values, counts = np.unique(num_samples_S[num_samples_S > 0], return_counts=True)
    usual = int(values[counts.argmax()])
    return usual * max(1, round(BLOCK_ROWS / usual)) if usual < BLOCK_ROWS else BLOCK_ROWS
