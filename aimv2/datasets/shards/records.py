"""The samples of tar shards, read in place. Letters: B rows, S shards."""

import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.records import DataPart, Records, json_of, reopened, text_of, value_at
from aimv2.datasets.shards.build import build_index
from aimv2.datasets.shards.files import ChangedShardError, ShardFiles
from aimv2.datasets.shards.index import IMAGES, open_index
from aimv2.datasets.shards.scan import MEMBER, hash_key, split
from aimv2.datasets.shards.tar import BLOCK, MAX_EXTENDED, Member, TarError, first_member

BLOCK_ROWS = 65_536
CONCURRENCY = 16  # requests to servers at a time
HEADERS = 4 * BLOCK  # bytes of most chains of headers, and more
MAX_SAMPLE = 2**26  # bytes that are read at once; the rest of a larger sample is read by member


class ShardRecords(Records):
    """Samples of tar shards.

    A field is a member, such as ``txt``, or a key of a JSON member, such as ``json.caption`` or ``json.meta.width``.
    Every member is read with its headers: its name, size and checksum must be those of the index.

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
        self._files = ShardFiles(location, self._index, cache_dir, cache_bytes, sleep)
        if self._files.has_remote:
            self.concurrency = CONCURRENCY
        self._first_rows = self._index.first_row.tolist()
        # Indexing a structured array takes longer than reading a member.
        self._row_bytes = self._index.rows.view(np.uint8).data
        self._row_struct = struct.Struct(f"<QI{MEMBER * len(self.extensions)}I")
        self._last_samples = threading.local()  # of each thread: row, first byte in the shard, and content
        self._last_json: tuple[int, str, Any] = (-1, "", None)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (type(self), self._location, self._arguments, self.digest())

    @property
    def retries(self) -> int:
        return self._files.retries

    def __len__(self) -> int:
        return len(self._index.rows)

    def part_edges(self) -> np.ndarray:
        return self._index.first_row

    def expect(self, blocks: Sequence[range]) -> None:
        if self._files.has_remote:
            self._files.expect(list(dict.fromkeys(shard for block in blocks for shard in self._shards_of(block))))

    def _shards_of(self, block: range) -> range:
        return range(self._shard_of(block[0]), self._shard_of(block[-1]) + 1) if block else range(0)

    def key(self, row: int) -> str:
        shard = self._shard_of(row)
        hashed, block, *_ = self._row_struct.unpack_from(self._row_bytes, row * self._row_struct.size)
        content = self._files.read(shard, block * BLOCK, HEADERS)
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
        self._files.check()

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
        try:
            return self._member_once(row, extension, with_others=with_others)
        except ChangedShardError:
            self._last_samples = threading.local()
            if not self._files.forget(self._shard_of(row)):
                raise
            return self._member_once(row, extension, with_others=with_others)

    def _member_once(self, row: int, extension: str, *, with_others: bool) -> bytes | None:
        column = self._columns.get(extension)
        if column is None:
            return None
        shard = self._shard_of(row)
        key, start, *members = self._row_struct.unpack_from(self._row_bytes, row * self._row_struct.size)
        block, size, checksum = members[MEMBER * column : MEMBER * (column + 1)]
        if not block:
            return None
        at = (start + block - 1) * BLOCK
        kept, first, sample = getattr(self._last_samples, "found", (-1, 0, b""))
        if with_others and kept != row and _is_together(members):
            kept, first, sample = row, start * BLOCK, self._read_sample(shard, start * BLOCK, members)
            self._last_samples.found = kept, first, sample
        content = sample[at - first :][: HEADERS + size] if kept == row else self._files.read(shard, at, HEADERS + size)
        _, found, member, content = self._checked(row, shard, at, size, key, content)
        data = content[member.data - at : member.data - at + size]
        if found != extension or member.size != size or len(data) != size:
            raise self._files.changed(shard, f"the member {extension} of sample {row} is not where it was")
        if crc32(data) != checksum:
            raise self._files.changed(shard, f"the member {extension} of sample {row} has another content")
        return data

    def _read_sample(self, shard: int, start: int, members: Sequence[int]) -> bytes:
        """Read all members of a sample at once, with their headers, up to MAX_SAMPLE bytes."""
        ends = [
            (block - 1) * BLOCK + HEADERS + size
            for block, size in zip(members[::MEMBER], members[1::MEMBER], strict=True)
            if block
        ]
        return self._files.read(shard, start, min(max(ends), MAX_SAMPLE))

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
                content = self._files.read(shard, start, 4 * MAX_EXTENDED + size)
                member = first_member(content, base=start)
        except TarError as error:
            raise self._files.changed(shard, f"it {error}") from error
        parts = split(member.name) if member is not None and not member.kind else None
        if member is None or parts is None or hash_key(parts[0]) != key:
            raise self._files.changed(shard, f"sample {row} is not where it was")
        return *parts, member, content

    def _shard_of(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return bisect_right(self._first_rows, row) - 1


def _is_together(members: Sequence[int]) -> bool:
    """True if the members of a sample are one after the other, as in shards of webdataset."""
    blocks, sizes = members[::MEMBER], members[1::MEMBER]
    num_bytes = sum(HEADERS + size for block, size in zip(blocks, sizes, strict=True) if block)
    return max(blocks) * BLOCK <= 2 * num_bytes


def block_rows_of(num_samples_S: np.ndarray) -> int:
    """Return the multiple of the usual number of samples of a shard that is closest to ``BLOCK_ROWS``."""
    values, counts = np.unique(num_samples_S[num_samples_S > 0], return_counts=True)
    usual = int(values[counts.argmax()])
    return usual * max(1, round(BLOCK_ROWS / usual)) if usual < BLOCK_ROWS else BLOCK_ROWS
