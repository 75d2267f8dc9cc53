"""Records: the undecoded samples of a location, by row. Letters: B rows."""

import hashlib
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

# Where any row is read as fast as the next one. The order keeps 12 permutations of so many numbers: 25 MB.
MAX_BLOCK_ROWS = 2**18


class Part(NamedTuple):
    """A part of a location that can change on its own, such as a shard.

    Attributes:
        name: unique within the location.
        num_samples: samples in it.
        size: bytes.
        checksum: of its content; empty if it is not known.
    """

    name: str
    num_samples: int
    size: int
    checksum: str = ""


class Records(ABC):
    """The samples of shards, a folder or a dataset. Opened objects can be pickled and read by several processes.

    A field is named as in a description: ``txt`` is a text member, ``json.caption`` a key of the JSON member, and in
    tables and datasets ``caption`` is a column. ``folder`` is the name of the folder that contains an image.

    Attributes:
        block_rows: rows whose order is shuffled together; blocks of them are read one after the other.
    """

    block_rows: int

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return 0

    @abstractmethod
    def __len__(self) -> int: ...

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
            RunFailedError: the location is broken (cause ``data``).
        """

    @abstractmethod
    def field(self, row: int, name: str) -> Any:
        """Return the value of a field: text, a number, a list or None if the sample has no such field.

        Raises:
            BadSampleError: the member that holds it is broken.
            RunFailedError: the location is broken (cause ``data``).
        """

    @abstractmethod
    def parts(self) -> list[Part]:
        """Return the parts, whose names, sizes and checksums say whether two locations have the same content."""

    def digest(self) -> str:
        """Return a digest of the content."""
        return hashlib.sha256(repr([tuple(part) for part in self.parts()]).encode()).hexdigest()
