"""Tar shards: each is read once, from start to end, for the index. Nothing is extracted, and no link is followed."""

import errno
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BufferedIOBase, RawIOBase
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.base.processes import in_processes, in_threads
from aimv2.datasets.description import IMAGES, REFUSED, Location
from aimv2.datasets.index import (
    MAX_CONTENT,
    MISSING,
    Content,
    DataPart,
    Index,
    IndexedFile,
    IndexWriter,
    OnProgress,
    Record,
    RecordBatch,
    Stamp,
    batch_of,
    known_indexes,
    stamp_at,
)
from aimv2.datasets.remote import (
    Options,
    Patience,
    base_of,
    describe_url,
    expand,
    is_transient,
    is_url,
    open_url,
    translated,
)

# As webdataset: the key is the path up to the first dot of the base name.
KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
META = re.compile(r"__[^/]*__($|/)")  # members about the shard
UNSAFE = re.compile(r"/|(.*/)?\.\.(/|$)", re.DOTALL)
BUFFER = 1 << 16  # bytes; tarfile copies what is left of its buffer with each header
WINDOW = 1 << 22
MAX_EXTENDED = 1 << 20  # bytes of the content of an extended header
MAX_EMPTY = 1000  # reads beyond the end of a shard
MAX_EXTENSIONS = 64
MAX_ERRORS = 10  # broken shards after which a scan stops
EXTENDED = (b"x", b"g", b"X", b"L", b"K")  # types of headers that have content
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
THREADS = 16  # that compare shards; the time is that of the file system
TOO_MANY = (
    f"has more than {MAX_EXTENSIONS} kinds of members, such as {{name!r}}: the extension starts at the first dot of a"
    " file's name, so keys must have no dots"
)
APART = (
    "has members of samples that are apart from each other, and keys that repeat, so it is unknown which belong"
    " together; pack it again with unique names: tar --sort=name"
)
NO_PAIRS = (
    "shards: no image has another member of its name beside it; members of a sample have the same path but for the"
    " extension, such as pictures/1.jpg and pictures/1.txt"
)
WITHOUT_IMAGE = "samples without an image"


class ShardError(ValueError):
    """A broken shard. The message follows the shard's name in a sentence: "is cut short: …"."""


class UnreachableError(UsageError):
    """A server does not answer, or not as it should, so that others of its shards cannot be read either."""


class ShardRows(NamedTuple):
    file: IndexedFile
    batches: Iterable[RecordBatch]
    num_pairs: int = 1  # samples with an image and a text; 1 for known shards, which had some when they were read
    notes: Mapping[str, int] = MappingProxyType({})  # numbers of members that were ignored, and of odd samples


def write_shards(location: Location, writer: IndexWriter, workers: int, on_progress: OnProgress) -> None:
    """Write the samples of all shards. Shards whose size and times have not changed are not read again."""
    options, base = location.storage_options, base_of(location.shards)
    names, known = expand(location.shards, options=options), _known_shards(location)
    images = (location.image,) if location.image else IMAGES
    tasks = [(name, images, known[name].file if name in known else None, options) for name in names]
    errors, notes, num_pairs = list[UsageError](), Counter[str](), 0
    for name, scanned in zip(names, in_processes(_attempt, tasks, workers, "scans shards"), strict=True):
        if isinstance(scanned, UnreachableError):
            raise scanned
        if isinstance(scanned, UsageError):
            errors.append(scanned)
            if len(errors) == MAX_ERRORS:
                break
            continue
        writer.num_read += scanned is not None
        shard = scanned or known[name]
        first = writer.num_samples
        writer.add_file(shard.file._replace(name=name.removeprefix(base)))
        for batch in shard.batches:
            writer.add_batch(batch)
        num_samples = writer.num_samples - first
        writer.parts.append(DataPart(name.removeprefix(base), num_samples, shard.file.stamp.size, shard.file.checksum))
        notes.update(shard.notes)
        num_pairs += shard.num_pairs
        on_progress(writer.num_samples, round(writer.num_samples / len(writer.parts) * len(names)))  # an estimate
    if len(errors) == 1:
        raise errors[0]
    if errors:
        count = f"at least {len(errors)}" if len(errors) == MAX_ERRORS else str(len(errors))
        raise UsageError(f"{count} shards cannot be indexed: {'; '.join(map(str, errors))}")
    if not writer.num_samples:
        raise UsageError(f"shards: there are no samples in {', '.join(location.shards)}")
    if not num_pairs and 0 < notes[WITHOUT_IMAGE] < writer.num_samples:
        raise UsageError(NO_PAIRS)
    num_bytes = sum(part.size for part in writer.parts)
    writer.notes.append(f"shards: {len(names):,}, {num_bytes / 1e6:,.1f} MB; members: {', '.join(writer.names)}")
    if unread := len(names) - writer.num_read:
        writer.notes.append(f"not read again, because size and times have not changed: {unread:,} shards")
    writer.notes += [f"{what}: {count:,}" for what, count in notes.items()]


def shard_stamps(location: Location, index: Index) -> dict[str, Stamp]:
    """Return the stamps of shards now; of those behind URLs, which are compared when they are read, those indexed."""
    base, before = base_of(location.shards), index.stamps()

    def now(name: str) -> Stamp:
        return before[name] if is_url(base + name) else stamp_at(base + name)

    stamps = zip(before, in_threads(now, before, THREADS), strict=True)
    return {name: stamp for name, stamp in stamps if stamp != MISSING}


def block_rows_of(num_samples_S: np.ndarray, block_rows: int = 65_536) -> int:
    """Return the multiple of the usual number of samples of a shard that is closest to ``block_rows``."""
    values, counts = np.unique(num_samples_S[num_samples_S > 0], return_counts=True)
    usual = int(values[counts.argmax()])
    return usual * max(1, round(block_rows / usual)) if usual < block_rows else block_rows


def _known_shards(location: Location) -> dict[str, ShardRows]:
    shards = {}
    for index in known_indexes(location):
        row, files = 0, list(index.read_files())
        if len(files) != len(index.parts):  # it was made for another kind of place
            continue
        for part, file in zip(index.parts, files, strict=True):
            end = row + part.num_samples
            shards[index.base + file.name] = ShardRows(file, index.batches(row, end))
            row = end
    return shards


def _attempt(task: tuple[str, Sequence[str], IndexedFile | None, Options]) -> ShardRows | UsageError | None:
    try:
        return scan(*task)
    except UsageError as error:
        return error


def scan(
    name: str,
    images: Sequence[str] = IMAGES,
    known: IndexedFile | None = None,
    options: Options | None = None,
    patience: Patience | None = None,
) -> ShardRows | None:
    """Read a shard, from start to end; None if it has the size and times, or version, that are known."""
    try:
        return (patience or Patience()).read(lambda: _scan(name, images, known, options or {}))
    except ShardError as error:
        raise UsageError(f"{name} {error}") from error
    except OSError as error:
        kind = UnreachableError if is_url(name) and is_transient(error) else UsageError
        raise kind(f"{name} cannot be read: {error.strerror or error}") from error


def _state(name: str, options: Options) -> tuple[Stamp, str]:
    """Return the stamp and the version of a shard; one behind a URL has no times."""
    if is_url(name):
        size, version = describe_url(name, options)
        return Stamp(size, 0, 0), version
    if (stamp := stamp_at(name)) == MISSING:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return stamp, ""


def _scan(name: str, images: Sequence[str], known: IndexedFile | None, options: Options) -> ShardRows | None:
    state = _state(name, options)
    # A web server may say nothing of the version of a file.
    if known and state == (known.stamp, known.version) and (known.version or not is_url(name)):
        return None
    with open_url(name, options) if is_url(name) else open(name, "rb", buffering=0) as file:
        stream = _Stream(file)
        samples = _read(stream)
    if stream.size != state[0].size or _state(name, options) != state:
        raise ShardError("changed while it was read")
    records, notes = samples.records(), samples.notes
    num_images = [len(record.contents.keys() & set(images)) for record in records]
    notes[WITHOUT_IMAGE] = num_images.count(0)
    notes[f"samples with several images, of which the first of {', '.join(images)} is read"] = sum(
        num > 1 for num in num_images
    )
    num_pairs = sum(0 < num < len(record.contents) for num, record in zip(num_images, records, strict=True))
    return ShardRows(IndexedFile(name, *state, f"{stream.checksum:08x}"), [batch_of(records)], num_pairs, +notes)


class _Stream:
    """A file that is read once, from start to end, and what was read of it so far."""

    def __init__(self, file: RawIOBase | BufferedIOBase) -> None:
        self._file, self._num_empty = file, 0
        self.start = b""  # the first bytes
        self.size = self.checksum = 0  # of all bytes
        self.content_end = 0  # the place behind the last byte that is not zero

    def read(self, num_bytes: int) -> bytes:
        content = translated(lambda: self._file.read(num_bytes)) or b""
        self._num_empty += not content
        if self._num_empty > MAX_EMPTY:  # tarfile looks for what a header promises without an end
            raise ShardError(f"is cut short: it ends at byte {self.size:,} within a member")
        self.start = self.start or content[:8]
        self.checksum = zlib.crc32(content, self.checksum)
        if filled := content.rstrip(b"\0"):
            self.content_end = self.size + len(filled)
        self.size += len(content)
        return content


class _Header(tarfile.TarInfo):
    """A header that is refused where it would take memory without limit, or lead backwards."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in EXTENDED and header.size > MAX_EXTENDED):
            raise ShardError(f"has a header of {header.size:,} bytes")
        return header


def _read(stream: _Stream) -> "_Samples":
    samples = _Samples()
    try:
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=stream, mode="r|", bufsize=BUFFER, tarinfo=_Header, errors="backslashreplace"
        ) as tar:
            for member in tar:
                tar.members = []  # they would fill the memory
                if member.issparse():
                    raise ShardError("has sparse members; write it again without --sparse")
                if tar.pax_headers.keys() & {"path", "size"}:
                    raise ShardError("has a global header with a path or size for all members")
                samples.add(member, tar)
            end = tar.offset
        while stream.read(WINDOW):
            pass
    except ShardError:
        raise
    except (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError) as error:
        raise ShardError(_why_unreadable(stream, error)) from error
    if end + tarfile.BLOCKSIZE > stream.size:
        raise ShardError(f"is cut short: it ends at byte {stream.size:,} without the mark of its end")
    if stream.content_end > end:
        raise ShardError(f"has a broken header at byte {end:,}, or another archive after its end")
    return samples


def _why_unreadable(stream: _Stream, error: Exception) -> str:
    if kind := next((kind for magic, kind in COMPRESSED.items() if stream.start.startswith(magic)), None):
        return f"is compressed ({kind}); decompress it, because samples are read in place"
    if not stream.size:
        return "is empty"
    if stream.size > tarfile.BLOCKSIZE and str(error) in ("unexpected end of data", "truncated header"):
        return f"is cut short: it ends at byte {stream.size:,} within a member"
    return f"is not a tar archive, or broken ({error})"


class _Samples:
    """Samples while a shard is read: runs of members with the same key."""

    def __init__(self) -> None:
        self.notes: Counter[str] = Counter()
        self._runs: list[Record] = []
        self._extensions: set[str] = set()

    def add(self, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        key, extension = split(member.name) or ("", "")
        if refusal := _refusal(member, extension):
            self.notes[f"ignored: {refusal}"] += 1
            return
        if not self._runs or self._runs[-1].key != key:
            self._runs.append(Record(key, {}))
        if extension in self._runs[-1].contents:
            self.notes["ignored: second member of a sample with the same extension"] += 1
            return
        self._extensions.add(extension)
        if len(self._extensions) > MAX_EXTENSIONS:
            raise ShardError(TOO_MANY.format(name=member.name))
        checksum, file = 0, tar.extractfile(member)
        assert file is not None, "only files are read"
        while content := file.read(WINDOW):
            checksum = zlib.crc32(content, checksum)
        self._runs[-1].contents[extension] = Content(0, member.offset_data, member.size, checksum)

    def records(self) -> list[Record]:
        """Return the samples, in the order of their first members.

        webdataset reads each run as a sample. Archives of ``tar`` have the files of a folder in any order, so that the
        members of most samples are apart. Their runs are joined if no key has an extension twice.
        """
        joined, twice, apart = dict[str, dict[str, Content]](), set[str](), set[str]()
        for key, contents, _ in self._runs:
            if key in joined:
                (twice if joined[key].keys() & contents.keys() else apart).add(key)
            joined.setdefault(key, {}).update(contents)
        if twice and apart - twice:
            raise ShardError(APART)
        repeated = len(self._runs) - len(joined)
        if twice:
            self.notes["odd: sample with the key of an earlier one in its shard"] = repeated
            return self._runs
        self.notes["joined: members of a sample that are apart"] = repeated
        return [Record(key, contents) for key, contents in joined.items()]


def split(name: str) -> tuple[str, str] | None:
    """Return the key and the extension of a member, in lower case; None if its name has none."""
    match = KEY.match(name)
    return (match[1], match[2].lower()) if match and match[2] else None


def _refusal(member: tarfile.TarInfo, extension: str) -> str:
    """Return why a member is ignored; empty if it is not."""
    if not member.isreg():
        return "folder" if member.isdir() else "link" if member.islnk() or member.issym() else "device or pipe"
    if UNSAFE.match(member.name):
        return "path that leaves the archive"
    if META.match(member.name):
        return "member about the shard"
    if not extension:
        return "name without a key or an extension"
    if member.size > MAX_CONTENT:
        return "member of 4 GiB or more"
    return "pickled member" if f".{extension}".endswith(REFUSED) else ""
