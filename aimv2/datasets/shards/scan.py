"""The samples of one shard. Letters: N samples, E extensions."""

import os
import re
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Callable
from io import BufferedIOBase, RawIOBase
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aimv2.base.address import hash64
from aimv2.base.errors import UsageError
from aimv2.datasets.description import REFUSED
from aimv2.datasets.shards.patterns import is_url
from aimv2.datasets.shards.remote import Options, Patience, describe_url, is_transient, open_url, translated
from aimv2.datasets.shards.tar import BLOCK, Member, TarError, walk
from aimv2.datasets.stamps import Stamp, stamp_of

# As webdataset: the key is the path up to the first dot of the base name.
KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
META = re.compile(r"__[^/]*__($|/)")  # members about the shard
UNSAFE = re.compile(r"/|(.*/)?\.\.(/|$)", re.DOTALL)
MAX_BYTES = 2**32 - 1  # of a member
MAX_BLOCKS = 2**32 - 1  # of a shard
MAX_EXTENSIONS = 64
MEMBER = 3  # numbers of a member
TOO_MANY = (
    f"has more than {MAX_EXTENSIONS} kinds of members, such as {{name!r}}: the extension starts at the first dot of a"
    " file's name, so keys must have no dots"
)
APART = (
    "has members of samples that are apart from each other, and keys that repeat, so nobody knows what belongs"
    " together; pack it again with unique names: tar --sort=name"
)
hash_key = hash64.__wrapped__  # keys do not repeat, so a cache is only in the way


class UnreachableError(UsageError):
    """A server does not answer, or not as it should, so that others of its shards cannot be read either."""


class Scan(NamedTuple):
    """The samples of a shard.

    Attributes:
        size, version: bytes, and a text that changes with the content (``version_of``).
        checksum: CRC-32 of the content, in hexadecimal.
        extensions: names of the E extensions.
        rows: ``row_type(E)`` [N], in the order of the archive.
        notes: how many members were ignored and how many keys are odd, by reason.
    """

    size: int
    version: str
    checksum: str
    extensions: tuple[str, ...]
    rows: np.ndarray
    notes: Counter[str]


def row_type(num_extensions: int) -> np.dtype:
    """Return the type of a sample's row.

    ``key`` is the hash of the key, and ``block`` the 512-byte block of the shard at which the sample starts.
    ``members`` has for each extension the block of the member's first header, counted from 1 at ``block`` (0: there is
    no such member), and the bytes and the CRC-32 of its content.
    """
    return np.dtype([("key", "<u8"), ("block", "<u4"), ("members", "<u4", (num_extensions, MEMBER))])


def split(name: str) -> tuple[str, str] | None:
    """Return the key and the extension of a member, in lower case; None if its name has none."""
    found = KEY.match(name)
    return (found[1], found[2].lower()) if found and found[2] else None


def state(name: str, options: Options) -> tuple[int, str]:
    """Return the size and the version of a shard.

    Args:
        options: of the file system, if it is a URL.
    """
    if is_url(name):
        return describe_url(name, options)
    status = os.stat(name)
    return status.st_size, version_of(status)


def version_of(status: os.stat_result) -> str:
    """Return the version of a shard that is a file: the times of a stamp."""
    stamp = stamp_of(status)
    return f"{stamp.modified} {stamp.changed}"


def stamp_at(size: int, version: str) -> Stamp:
    """Return the stamp of a shard that is a file; that of no file, if the version is one of a URL."""
    times = version.split()
    is_file = len(times) == len(Stamp._fields) - 1 and all(text.lstrip("-").isdecimal() for text in times)
    return Stamp(size, *map(int, times)) if is_file else Stamp(-1, 0, 0)


def scan(
    name: str,
    known: tuple[int, str] | None = None,
    options: Options = MappingProxyType({}),
    sleep: Callable[[float], object] = time.sleep,
) -> Scan | None:
    """Read a shard once and return its samples; None if its size and version are as known.

    Args:
        options: as in ``state``.

    Raises:
        UsageError: it cannot be read or is no intact tar archive.
    """
    try:
        if is_url(name):
            return Patience(sleep).read(lambda: translated(lambda: _scan(name, known, options)))
        return Patience(sleep).read(lambda: _scan(name, known, options))
    except TarError as error:
        raise UsageError(f"{name} {error}") from error
    except OSError as error:
        kind = UnreachableError if is_url(name) and is_transient(error) else UsageError
        raise kind(f"{name} cannot be read: {error.strerror or error}") from error


def _scan(name: str, known: tuple[int, str] | None, options: Options) -> Scan | None:
    size, version = state(name, options)
    if version and (size, version) == known:
        return None
    if size > MAX_BLOCKS * BLOCK:
        raise TarError(f"has {size:,} bytes, and at most {MAX_BLOCKS * BLOCK:,} are allowed")
    with open_url(name, options) if is_url(name) else open(name, "rb", buffering=0) as file:
        crc, num_bytes, samples = _samples(file)
    if num_bytes != size or state(name, options) != (size, version):
        raise TarError("changed while it was read")
    return Scan(size, version, f"{crc:08x}", *samples.table(), samples.notes)


def _samples(file: RawIOBase | BufferedIOBase) -> tuple[int, int, "_Samples"]:
    samples = _Samples()
    crc = num_bytes = 0

    def count(content: memoryview) -> None:
        nonlocal crc, num_bytes
        crc = zlib.crc32(content, crc)  # measured: 5.2 GB/s, SHA-1 2.0, SHA-256 1.8, BLAKE2b 1.0
        num_bytes += len(content)

    for member in walk(file, count):
        samples.add(member)
    return crc, num_bytes, samples


class _Samples:
    """Samples while a shard is read: members in a row with the same key."""

    def __init__(self) -> None:
        self.notes: Counter[str] = Counter()
        self._key: str | None = None
        self._hashes = array("Q")
        self._blocks = array("Q")
        # Of each: row, extension, block of the first header, bytes, checksum.
        self._members = array("Q")
        self._extensions: dict[str, int] = {}
        self._last: set[str] = set()  # extensions of the current sample

    def add(self, member: Member) -> None:
        key, extension = split(member.name) or ("", "")
        if refusal := _refusal(member, extension):
            self.notes[f"ignored: {refusal}"] += 1
            return
        block = member.start // BLOCK
        if key != self._key:
            self._key = key
            self._last.clear()
            self._hashes.append(hash_key(key))
            self._blocks.append(block)
        if extension in self._last:
            self.notes["ignored: second member of a sample with the same extension"] += 1
            return
        self._last.add(extension)
        column = self._extensions.setdefault(extension, len(self._extensions))
        if column >= MAX_EXTENSIONS:
            raise TarError(TOO_MANY.format(name=member.name))
        self._members.extend((len(self._blocks) - 1, column, block, member.size, member.checksum))

    def table(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the extensions and rows.

        Raises:
            TarError: members of a sample are apart from each other, and the keys of other samples repeat.
        """
        run_M, column_M, block_M, *numbers = np.array(self._members, np.int64).reshape(-1, 2 + MEMBER).T
        row_R = self._rows_of_runs(run_M, column_M)
        first_N = np.unique(row_R, return_index=True)[1]
        rows = np.zeros(len(first_N), row_type(len(self._extensions)))
        rows["key"] = np.array(self._hashes)[first_N]
        rows["block"] = np.array(self._blocks)[first_N]
        row_M = row_R[run_M]
        rows["members"][row_M, column_M] = np.stack([block_M - rows["block"][row_M] + 1, *numbers], axis=1)
        if repeated := len(rows) - len(np.unique(rows["key"])):
            self.notes["odd: sample with the key of an earlier one in its shard"] = repeated
        return tuple(self._extensions), rows

    def _rows_of_runs(self, run_M: np.ndarray, column_M: np.ndarray) -> np.ndarray:
        """Return the row of each run of members with the same key.

        webdataset reads each run as a sample. Archives of ``tar`` have the files of a folder in any order, so that the
        members of most samples are apart. Their runs are joined if no key has an extension twice.
        """
        num_runs, num_columns = len(self._hashes), len(self._extensions)
        key_R = np.unique(np.array(self._hashes, np.uint64), return_inverse=True)[1]
        num_keys = int(key_R.max(initial=-1)) + 1
        if num_keys == num_runs:
            return np.arange(num_runs)
        is_twice_K = np.zeros(num_keys, bool)
        place_M, count_M = np.unique(key_R[run_M] * num_columns + column_M, return_counts=True)
        is_twice_K[place_M[count_M > 1] // num_columns] = True
        is_apart_K = (np.bincount(key_R) > 1) & ~is_twice_K
        if not is_apart_K.any():
            return np.arange(num_runs)
        if is_twice_K.any():
            raise TarError(APART)
        _, first_R = np.unique(key_R, return_index=True)
        order_K = np.argsort(np.argsort(first_R))  # samples are in the order of their first members
        row_R: np.ndarray = order_K[key_R]
        self.notes["joined: members of a sample that are apart"] = num_runs - num_keys
        return row_R


def _refusal(member: Member, extension: str) -> str:
    """Return why a member is ignored; empty if it is not."""
    if member.kind:
        return member.kind
    if UNSAFE.match(member.name):
        return "path that leaves the archive"
    if META.match(member.name):
        return "member about the shard"
    if not extension:
        return "name without a key or an extension"
    if member.size > MAX_BYTES:
        return "member of 4 GiB or more"
    return "pickled member" if f".{extension}".endswith(REFUSED) else ""
