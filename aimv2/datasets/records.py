"""Records: the undecoded samples of a location, by row. Letters: B rows, P parts."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from aimv2.base.errors import BadSampleError, RunFailedError
from aimv2.datasets.description import Location

# Where any row is read as fast as the next one. The order keeps 8 permutations of so many numbers of a source: 17 MB.
MAX_BLOCK_ROWS = 2**18
MAX_FIELDS = 20  # that an error lists


OnProgress = Callable[[int, int | None], None]  # samples or files so far, and of all if that is known


class Indexed(NamedTuple):
    """An index that was written.

    Attributes:
        num_samples: samples in it.
        notes: sentences about samples that were left out or cannot be used.
    """

    num_samples: int
    notes: tuple[str, ...] = ()


class DataPart(NamedTuple):
    """A part of a location that can change on its own, such as a shard.

    Attributes:
        name: unique within the location.
        num_samples: samples in it.
        size: bytes.
        checksum: of its content.
    """

    name: str
    num_samples: int
    size: int
    checksum: str


class Records(ABC):
    """The samples of shards, a folder or a dataset. Opened objects can be pickled and read by several processes.

    A field is named as in a description: ``txt`` is a text member, ``json.caption`` a key of the JSON member, and in
    tables and datasets ``caption`` is a column. ``folder`` is the name of the folder that contains an image.

    Attributes:
        block_rows: rows whose order is shuffled together; blocks of them are read one after the other.
        concurrency: reads that are worth being made at the same time, by threads: several where each is a request to
            another host.
    """

    block_rows: int
    concurrency: int = 1

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return 0

    @abstractmethod
    def __len__(self) -> int: ...

    def part_edges(self) -> np.ndarray:
        """Return the first rows of the parts that are fetched whole, and the end of the last one: int64 [P + 1]."""
        return np.array([0, len(self)])

    def expect(self, blocks: Sequence[range]) -> None:  # noqa: B027 – most places have nothing to prepare
        """Say that most rows of these blocks are read next, in the order of the blocks; others are read one by one."""

    @abstractmethod
    def key(self, row: int) -> str:
        """Return the unique and stable name of a sample."""

    @abstractmethod
    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        """Return ``address.hash64`` of the keys: uint64 [B]."""

    @abstractmethod
    def image(self, row: int) -> bytes:
        """Return the image file of a sample.

        Raises:
            BadSampleError: there is none.
            RunFailedError: the location is broken, or the file is not the indexed one (cause ``data``).
        """

    @abstractmethod
    def field(self, row: int, name: str) -> Any:
        """Return the value of a field: text, a number, a list or None if the sample has no such field.

        Raises:
            BadSampleError: the member that holds it is broken.
            RunFailedError: the location is broken, or the file is not the indexed one (cause ``data``).
        """

    @abstractmethod
    def fields(self) -> list[str]:
        """Return the fields that some sample has; a JSON member stands for all its keys."""

    def other_fields(self, name: str) -> str:
        """Return the fields that there are, in words, if none has this name or contains it; else an empty text."""
        words = name.split(".")
        starts = {".".join(words[: end + 1]) for end in range(len(words))}
        if starts & set(found := self.fields()):
            return ""
        shown = sorted(found, key=lambda field: field.lower() != name.lower())[:MAX_FIELDS]
        return ", ".join(shown) + (", …" if len(found) > MAX_FIELDS else "")

    @abstractmethod
    def check(self, *, every_file: bool = False) -> None:
        """Compare sizes and times of files with those that were indexed.

        Args:
            every_file: also those of a folder in which no name has changed since, which are otherwise compared when
                they are read.

        Raises:
            UsageError: a file is missing, new or changed.
        """

    @abstractmethod
    def parts(self) -> list[DataPart]:
        """Return the parts, whose names, sizes and checksums say whether two locations have the same content."""

    def digest(self) -> str:
        """Return a digest of the content."""
        return hashlib.sha256(repr([tuple(part) for part in self.parts()]).encode()).hexdigest()


def text_of(content: bytes, where: Callable[[], str]) -> str:
    """Return a text member; one that is not UTF-8 is a bad sample."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadSampleError("missing caption", f"{where()} is not UTF-8: {error}") from error


def json_of(content: bytes, where: Callable[[], str]) -> Any:
    """Return the value of a JSON member; one that is not JSON is a bad sample."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadSampleError("broken json", f"{where()}: {error}") from error


def value_at(value: Any, keys: Sequence[str]) -> Any:
    """Return a value within a value of JSON; None if a key is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def reopened(reader: "RecordsReader", location: Location, arguments: dict[str, Any], digest: str) -> Records:
    """Open the records of a location again in another process; RunFailedError if they were indexed anew."""
    records = reader(location, **arguments)
    if records.digest() != digest:
        raise RunFailedError("data", f"the index {location.index} was replaced by that of other data during the run")
    return records


class RecordsReader(Protocol):
    """A class of records that reads a kind of place; a line of ``description.Location`` registers it."""

    def build(self, location: Location, workers: int, on_progress: OnProgress, *, verify: bool = False) -> Indexed:
        """Write the index of a location (``index_folder.writing``).

        Args:
            verify: read all files again, also those whose size and times are as in the last index.

        Raises:
            UsageError: the location cannot be read or has no usable sample.
            RunFailedError: a process was killed.
        """

    def __call__(self, location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> Records:
        """Open an indexed location.

        Args:
            cache_dir, cache_bytes: where to save copies of remote files, and how much at most.

        Raises:
            UsageError: the location or its index is missing, or the index does not fit the location or its description.
        """
