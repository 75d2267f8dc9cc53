"""Image-text pairs: the interface of every source, and pairs of several sources together. Letters: B images, S side."""

import contextlib
import math
import os
import tempfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from aimv2.base import address
from aimv2.base.errors import BadSampleError
from aimv2.base.order import equal_edges
from aimv2.base.processes import in_threads
from aimv2.config.data_config import AugmentConfig
from aimv2.data.sources.scene import Caption, Question, Scene, questions

CaptionKind = Literal["short", "dense"]  # the paper's alt-text and synthetic captions, or what stands in for them
CAPTION_KINDS: tuple[CaptionKind, ...] = ("short", "dense")
IN_MEMORY = 2**30  # bytes, the most of an array that is not in a file
Picture = np.ndarray | bytes  # uint8 [S, S, 3], or the content of an image file


class Pairs(ABC):
    """Images with two captions each, by row from 0 to ``len - 1``; arrays of rows are int64."""

    # Rows whose order is shuffled together (``aimv2.base.order``): as many as an array may have where rows can be read
    # in any order.
    block_rows: int = 2**22
    concurrency: int = 1  # reads at a time, by threads: several where each read is a request to another host
    kinds: tuple[CaptionKind, ...] = CAPTION_KINDS  # the kinds of captions that the pairs have

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return 0

    @abstractmethod
    def __len__(self) -> int: ...

    def block_edges(self, num_nodes: int) -> np.ndarray:
        """Return the edges of the blocks (``aimv2.base.order.OrderedPart``): int64 [K + 1]."""
        return equal_edges(len(self), self.block_rows)

    def expect(self, blocks: Sequence[range]) -> None:  # noqa: B027 – most sources have nothing to prepare
        """Say that the rows of these blocks are read next, in the order of the blocks; others are read one by one."""

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
    def picture(self, row: int) -> Picture: ...

    @abstractmethod
    def caption(self, row: int, kind: CaptionKind, choice: float = 0.0) -> Caption:
        """Return a caption of a pair, of the other kind if its source has captions of one kind only.

        ``choice``, on [0, 1), chooses among several captions of the kind; 0 is the first.
        """

    def text(self, row: int, kind: CaptionKind, choice: float = 0.0) -> str:
        """Return a caption as training tokenizes it, without the classes of words; arguments and errors as above."""
        return self.caption(row, kind, choice).text

    def image(self, row: int) -> np.ndarray:
        """Return the picture as evaluation reads it: uint8 [S, S, 3], of the same side for all pairs."""
        picture = self.picture(row)
        assert isinstance(picture, np.ndarray), "pairs in files decode their pictures"
        return picture

    def images(self, row_B: np.ndarray) -> np.ndarray:
        """Return the pictures as evaluation reads them: uint8 [B, S, S, 3], in a file if they are many."""
        return filled(len(row_B), in_threads(self.image, row_B.tolist(), self.concurrency))

    def captions(self, row_B: np.ndarray, kind: CaptionKind) -> list[Caption]:
        return list(in_threads(partial(self.caption, kind=kind), row_B.tolist(), self.concurrency))

    def texts(self, row_B: np.ndarray, kind: CaptionKind) -> list[str | None]:
        """Return one of the two captions of each pair as clean text, None if it has none."""

        def text(row: int) -> str | None:
            with contextlib.suppress(BadSampleError):
                return self.caption(row, kind).text
            return None

        return list(in_threads(text, row_B.tolist(), self.concurrency))

    def augment(self, row: int, config: AugmentConfig) -> AugmentConfig:
        return config

    def scene(self, row: int) -> Scene | None:
        """Return what the picture shows; None if the pair is not a scene."""
        return None

    def questions(self, row: int) -> list[Question]:
        """Return questions about the picture with their answers; none if the pair is not a scene and brings none."""
        scene = self.scene(row)
        return [] if scene is None else questions(scene)

    def drawn_at(self, px: int) -> "Pairs":
        """Return the same pairs with pictures of another side, if they are drawn when they are read."""
        return self

    def spread(self, num_rows: int) -> Sequence[int]:
        """Return some rows that represent all; the first ones where rows are in no order."""
        return range(min(num_rows, len(self)))

    def subset(self, num_pairs: int, *, from_end: bool = False) -> "Pairs":
        """Return random pairs in random order, the same for every run; smaller subsets are starts of larger ones."""
        order = address.generator(seed=0, purpose="subset").permutation(len(self))
        if from_end:
            order = order[::-1]
        return Selected(self, order[:num_pairs])


class Referred(Pairs):
    """Pairs that are those of others, each at a row of its own."""

    @abstractmethod
    def place(self, row: int) -> tuple[Pairs, int]:
        """Return the pairs that have a row's pair, and its row there."""

    def picture(self, row: int) -> Picture:
        pairs, row = self.place(row)
        return pairs.picture(row)

    def caption(self, row: int, kind: CaptionKind, choice: float = 0.0) -> Caption:
        pairs, row = self.place(row)
        return pairs.caption(row, kind, choice)

    def text(self, row: int, kind: CaptionKind, choice: float = 0.0) -> str:
        pairs, row = self.place(row)
        return pairs.text(row, kind, choice)

    def image(self, row: int) -> np.ndarray:
        pairs, row = self.place(row)
        return pairs.image(row)

    def augment(self, row: int, config: AugmentConfig) -> AugmentConfig:
        pairs, row = self.place(row)
        return pairs.augment(row, config)

    def scene(self, row: int) -> Scene | None:
        pairs, row = self.place(row)
        return pairs.scene(row)

    def questions(self, row: int) -> list[Question]:
        pairs, row = self.place(row)
        return pairs.questions(row)


class Selected(Referred):
    def __init__(self, pairs: Pairs, row_N: np.ndarray) -> None:
        self._pairs, self._row_N = pairs, row_N
        self.block_rows, self.concurrency = pairs.block_rows, pairs.concurrency

    def __len__(self) -> int:
        return len(self._row_N)

    def keys(self, row_B: np.ndarray) -> list[str]:
        return self._pairs.keys(self._row_N[row_B])

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        return self._pairs.sample_ids(self._row_N[row_B])

    def items(self, row_B: np.ndarray) -> np.ndarray:
        return self._pairs.items(self._row_N[row_B])

    def texts(self, row_B: np.ndarray, kind: CaptionKind) -> list[str | None]:
        return self._pairs.texts(self._row_N[row_B], kind)

    def place(self, row: int) -> tuple[Pairs, int]:
        return self._pairs, int(self._row_N[row])

    @property
    def retries(self) -> int:
        return self._pairs.retries


class Joined(Referred):
    """The pairs of several sources, one after the other."""

    def __init__(self, parts: Mapping[str, Pairs]) -> None:
        self.parts = dict(parts)
        self.block_rows = min(part.block_rows for part in parts.values())
        self.concurrency = max(part.concurrency for part in parts.values())
        self.kinds = tuple(kind for kind in CAPTION_KINDS if any(kind in part.kinds for part in parts.values()))
        self._parts = list(parts.values())
        self._ends = list(accumulate(len(part) for part in self._parts))
        self._starts = [end - len(part) for part, end in zip(self._parts, self._ends, strict=True)]
        self.rows = {name: range(start, end) for name, start, end in zip(parts, self._starts, self._ends, strict=True)}

    def __len__(self) -> int:
        return self._ends[-1]

    def expect(self, blocks: Sequence[range]) -> None:
        for part, start, end in zip(self._parts, self._starts, self._ends, strict=True):
            inside = (range(max(block.start, start), min(block.stop, end)) for block in blocks)
            if blocks_of_part := [range(block.start - start, block.stop - start) for block in inside if block]:
                part.expect(blocks_of_part)

    def part_numbers(self, row_B: np.ndarray) -> np.ndarray:
        """Return the number of the source that each pair is from: int64 [B]."""
        return np.searchsorted(self._ends, row_B, side="right")

    def keys(self, row_B: np.ndarray) -> list[str]:
        return [part.keys(np.array([row]))[0] for part, row in map(self.place, row_B.tolist())]

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        return self._by_part(row_B, lambda part, row_B: part.sample_ids(row_B))

    def items(self, row_B: np.ndarray) -> np.ndarray:
        return self._by_part(row_B, lambda part, row_B: part.items(row_B))

    def texts(self, row_B: np.ndarray, kind: CaptionKind) -> list[str | None]:
        return list(self._by_part(row_B, lambda part, row_B: np.array(part.texts(row_B, kind), object), object))

    @property
    def retries(self) -> int:
        return sum(part.retries for part in self._parts)

    def drawn_at(self, px: int) -> "Joined":
        return Joined({name: part.drawn_at(px) for name, part in self.parts.items()})

    def place(self, row: int) -> tuple[Pairs, int]:
        part = bisect_right(self._ends, row)
        return self._parts[part], row - self._starts[part]

    def _by_part(
        self, row_B: np.ndarray, of: Callable[[Pairs, np.ndarray], np.ndarray], dtype: type = np.int64
    ) -> np.ndarray:
        """Return what each source has for its own rows: [B], by default int64."""
        part_B = self.part_numbers(row_B)
        value_B: np.ndarray = np.empty(len(row_B), dtype=dtype)
        for part in np.unique(part_B).tolist():
            here_B = part_B == part
            value_B[here_B] = of(self._parts[part], row_B[here_B] - self._starts[part])
        return value_B


def filled(most: int, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Return pictures of one side, at most so many: uint8 [B, S, S, 3], or [0] of none; in a file if they are many."""
    filled_B, number = np.empty(0, dtype=np.uint8), 0
    for number, picture in enumerate(pictures, 1):
        if number == 1:
            filled_B = scratch((most, *picture.shape), picture.dtype)
        filled_B[number - 1] = picture
    return filled_B[:number]


def scratch(shape: tuple[int, ...], dtype: DTypeLike, in_memory: int = IN_MEMORY) -> np.ndarray:
    """Return an array with undefined values: in memory, or mapped from a temporary file if it has more bytes.

    The file, in ``TMPDIR``, has no name, so it is gone with the array or the process.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= in_memory:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # without it, a disk that is full later ends the process (SIGBUS)
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "r+", shape=shape)


class Sides(NamedTuple):
    """The parts of a source: training pairs, held-out pairs, and those with unseen objects if it has any."""

    train: Pairs
    held_out: Pairs
    unseen: Pairs | None = None


def usable_captions(pairs: Pairs, rows: Iterable[int], kind: CaptionKind) -> list[str]:
    return [text for text in pairs.texts(np.fromiter(rows, np.int64), kind) if text is not None]
