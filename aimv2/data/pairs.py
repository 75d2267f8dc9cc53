"""Image-text pairs: the interface of every source, and pairs of several sources together. Letters: B images, S side."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from aimv2 import address
from aimv2.data.sources.scene import Caption, Scene

CaptionKind = Literal["short", "dense"]  # in place of the paper's alt-text and synthetic captions
CAPTION_KINDS: tuple[CaptionKind, ...] = ("short", "dense")


class Pairs(ABC):
    """Images with two captions each, by row. Rows are int64 arrays of numbers from 0 to ``len - 1``."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def keys(self, row_B: np.ndarray) -> list[str]:
        """Return a unique and stable name for each pair."""

    @abstractmethod
    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        """Return the ids for random addresses: int64 [B]."""

    def items(self, row_B: np.ndarray) -> np.ndarray:
        """Return numbers by which evaluation groups pairs that are not independent: int64 [B]; by default all are."""
        return self.sample_ids(row_B)

    @abstractmethod
    def images(self, row_B: np.ndarray) -> np.ndarray:
        """Return the pictures: uint8 [B, S, S, 3]."""

    @abstractmethod
    def captions(self, row_B: np.ndarray, kind: CaptionKind) -> list[Caption]:
        """Return one of the two captions of each pair."""

    def scene(self, row: int) -> Scene | None:
        """Return what the picture shows; None if the pair is not a scene."""
        return None

    def subset(self, num_pairs: int, *, from_end: bool = False) -> "Pairs":
        """Return random pairs in random order, the same for every run; smaller subsets are starts of larger ones.

        Args:
            from_end: True for other pairs, from the end of the order.
        """
        order = address.generator(seed=0, purpose="subset").permutation(len(self))
        if from_end:
            order = order[::-1]
        return Selected(self, order[:num_pairs])


class Selected(Pairs):
    """Some rows of other pairs."""

    def __init__(self, pairs: Pairs, row_N: np.ndarray) -> None:
        self._pairs, self._row_N = pairs, row_N

    def __len__(self) -> int:
        return len(self._row_N)

    def keys(self, row_B: np.ndarray) -> list[str]:
        return self._pairs.keys(self._row_N[row_B])

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        return self._pairs.sample_ids(self._row_N[row_B])

    def items(self, row_B: np.ndarray) -> np.ndarray:
        return self._pairs.items(self._row_N[row_B])

    def images(self, row_B: np.ndarray) -> np.ndarray:
        return self._pairs.images(self._row_N[row_B])

    def captions(self, row_B: np.ndarray, kind: CaptionKind) -> list[Caption]:
        return self._pairs.captions(self._row_N[row_B], kind)

    def scene(self, row: int) -> Scene | None:
        return self._pairs.scene(int(self._row_N[row]))


class Joined(Pairs):
    """The pairs of several sources, one after the other.

    Attributes:
        parts: the pairs of each source.
        rows: the rows of each source, int64.
    """

    def __init__(self, parts: Mapping[str, Pairs]) -> None:
        self.parts = dict(parts)
        self._parts = list(parts.values())
        self._ends = np.cumsum([len(part) for part in self._parts])
        self._starts = self._ends - [len(part) for part in self._parts]
        self.rows = {
            name: np.arange(start, end) for name, start, end in zip(parts, self._starts, self._ends, strict=True)
        }

    def __len__(self) -> int:
        return int(self._ends[-1])

    def keys(self, row_B: np.ndarray) -> list[str]:
        return [part.keys(np.array([row]))[0] for part, row in self._places(row_B)]

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        id_B = np.empty(len(row_B), dtype=np.int64)
        for part, start, here_B in self._by_part(row_B):
            id_B[here_B] = part.sample_ids(row_B[here_B] - start)
        return id_B

    def items(self, row_B: np.ndarray) -> np.ndarray:
        item_B = np.empty(len(row_B), dtype=np.int64)
        for part, start, here_B in self._by_part(row_B):
            item_B[here_B] = part.items(row_B[here_B] - start)
        return item_B

    def images(self, row_B: np.ndarray) -> np.ndarray:
        return np.concatenate([part.images(np.array([row])) for part, row in self._places(row_B)])

    def captions(self, row_B: np.ndarray, kind: CaptionKind) -> list[Caption]:
        return [part.captions(np.array([row]), kind)[0] for part, row in self._places(row_B)]

    def scene(self, row: int) -> Scene | None:
        (part, own_row), *_ = self._places(np.array([row]))
        return part.scene(own_row)

    def _places(self, row_B: np.ndarray) -> list[tuple[Pairs, int]]:
        part_B = np.searchsorted(self._ends, row_B, side="right")
        return [
            (self._parts[part], row) for part, row in zip(part_B.tolist(), row_B - self._starts[part_B], strict=True)
        ]

    def _by_part(self, row_B: np.ndarray) -> list[tuple[Pairs, int, np.ndarray]]:
        part_B = np.searchsorted(self._ends, row_B, side="right")
        return [(self._parts[part], int(self._starts[part]), part_B == part) for part in np.unique(part_B).tolist()]


class Sides(NamedTuple):
    """The parts of a source: training pairs, held-out pairs, and those with unseen objects if it has any."""

    train: Pairs
    held_out: Pairs
    unseen: Pairs | None = None


def texts(captions: Sequence[Caption]) -> list[str]:
    """Return the captions as strings."""
    return [caption.text for caption in captions]
