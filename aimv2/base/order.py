"""The order of samples, a pure function of the seed and the place in the run, whatever the number of rows.

A place is the index of a sample in the run. With N canonical nodes every N-th place is one node's, and each node has
rows of its own, so that as many machines, or fewer, read apart from each other. MosaicML's Streaming has the same idea.

Letters: B samples, K blocks of rows, or places of a block of the mixture, N nodes, S sources.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from aimv2.base import address
from aimv2.base.address import Bijection

BLOCK = 1000  # places over which the shares of a mixture are exact
KEPT = 8  # permutations of each part and node: of blocks and of the rows of two, for pictures and shuffled captions


class OrderedPart(NamedTuple):
    """Rows that have an order of their own."""

    name: str  # of their source, which is part of the addresses; empty for all sources together
    edges: np.ndarray  # first rows of the blocks that are shuffled, and the end of the last: int64 [K + 1], ascending


def equal_edges(num_rows: int, block_rows: int) -> np.ndarray:
    """Return the edges of blocks with ``block_rows`` rows, of which the last one may have fewer: int64 [K + 1]."""
    return np.append(np.arange(0, num_rows, block_rows), num_rows)


def quotas(weights: Sequence[float]) -> tuple[int, ...]:
    """Return the places of each source in a block: shares of BLOCK by largest remainder, ties to the earlier source.
    Weights are at least 0 and not all 0; a small one may get no place."""
    exact = [Fraction(weight) for weight in weights]  # exact, so that equal remainders compare equal
    total = sum(exact)
    shares = [BLOCK * weight / total for weight in exact]
    whole = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda source: whole[source] - shares[source])
    for source in by_remainder[: BLOCK - sum(whole)]:
        whole[source] += 1
    return tuple(whole)


class Order:
    """The order of the rows of one part, or of several sources.

    Each epoch permutes blocks of consecutive rows, by a keyed bijection, and the rows in each block, so that a run
    reads from few places of the data at a time and never holds a permutation of all rows.

    With quotas each source has its own epochs: its quota is placed at random in every BLOCK places, and the n-th of its
    places in the run shows the n-th row of its permutations. Arms with different shares therefore show the same samples
    of a source in the same order. Without quotas all sources have the same epochs, in which they take turns in
    proportion to their sizes, at random within BLOCK places.

    Canonical nodes each have an equal share of consecutive rows of each part in all epochs, in an order of their own.
    """

    def __init__(self, parts: Sequence[OrderedPart], quotas: tuple[int, ...] | None = None, num_nodes: int = 1) -> None:
        self.num_nodes = num_nodes
        self._names = [part.name for part in parts]
        self._quotas = quotas
        self._blocks_NS = [
            [_Blocks(_of_node(part.edges, node, num_nodes)) for part in parts] for node in range(num_nodes)
        ]

    def places(self, first: int, num_images: int, image_B: np.ndarray) -> np.ndarray:
        """Return the places of images of a batch: its first N-th has those of the first node, and so on: int64 [B]."""
        node_B, offset_B = np.divmod(image_B, num_images // self.num_nodes)
        return first + offset_B * self.num_nodes + node_B

    def at(self, place_B: np.ndarray, *, seed: int, purpose: str = "order") -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs and rows of the samples at these places of a run: two int64 [B]."""
        epoch_B, row_B = np.empty_like(place_B), np.empty_like(place_B)
        for blocks, here_B, nth_B, own in self._own(place_B, seed, purpose):
            epoch_B[here_B], row_B[here_B] = blocks.at(nth_B, seed, own)
        return epoch_B, row_B

    def ahead(self, place_B: np.ndarray, *, seed: int, purpose: str = "order") -> list[range]:
        """Return the rows of the blocks that the samples at these places are in, and then those of the next blocks."""
        found = [blocks.ahead(nth_B, seed, own) for blocks, _, nth_B, own in self._own(place_B, seed, purpose)]
        return [rows for turn in zip_longest(*found) for rows in turn if rows is not None]

    def _own(
        self, place_B: np.ndarray, seed: int, purpose: str
    ) -> Iterator[tuple["_Blocks", np.ndarray, np.ndarray, str]]:
        """Yield, by node and part: blocks, the places that are theirs (indices into ``place_B``), the numbers of these
        places in the sequence of the node and part, and the purpose of their order."""
        nth_B, node_B = np.divmod(place_B, self.num_nodes)
        for node in np.unique(node_B).tolist():
            of_node = purpose if self.num_nodes == 1 else f"{purpose} on node {node}"
            here_B = np.flatnonzero(node_B == node)
            part_B, own_B = self._parts_at(node, nth_B[here_B], seed, f"{of_node} of sources")
            for part in np.unique(part_B).tolist():
                name = self._names[part]
                is_own_B = part_B == part
                own = f"{of_node} in {name}" if name else of_node
                yield self._blocks_NS[node][part], here_B[is_own_B], own_B[is_own_B], own

    def _parts_at(self, node: int, nth_B: np.ndarray, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the part at each place of a node, and the number of earlier places of that part: two int64 [B]."""
        if self._quotas is not None:
            return _sources_at(seed, purpose, nth_B, self._quotas)
        if len(self._names) == 1:
            return np.zeros_like(nth_B), nth_B
        return _turns_at(seed, purpose, nth_B, [len(blocks) for blocks in self._blocks_NS[node]])


def _of_node(edges: np.ndarray, node: int, num_nodes: int) -> np.ndarray:
    """Return the edges of the blocks of a canonical node."""
    start, end = int(edges[0]), int(edges[-1])
    first, last = (start + (end - start) * number // num_nodes for number in (node, node + 1))
    return np.concatenate([[first], edges[(edges > first) & (edges < last)], [last]])


class _Blocks:
    """A sequence of permutations of consecutive rows: of their blocks, and of the rows in each block."""

    def __init__(self, edges: np.ndarray) -> None:
        self._edges = edges
        self._kept: dict[tuple[Hashable, ...], np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._edges[-1] - self._edges[0])

    def at(self, nth_B: np.ndarray, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs and rows at these places of the sequence: two int64 [B]."""
        epoch_B, place_B = np.divmod(nth_B, len(self))
        row_B = np.empty_like(place_B)
        for epoch in np.unique(epoch_B).tolist():
            here_B = epoch_B == epoch
            slot_B, offset_B = self._slots(place_B[here_B], seed, purpose, epoch)
            rows_B = np.empty_like(offset_B)
            for slot in np.unique(slot_B).tolist():
                in_slot_B = slot_B == slot
                block = int(self._epoch(seed, purpose, epoch)[0][slot])
                rows_B[in_slot_B] = self._shuffled_rows(seed, purpose, epoch, block)[offset_B[in_slot_B]]
            row_B[here_B] = rows_B
        return epoch_B, row_B

    def ahead(self, nth_B: np.ndarray, seed: int, purpose: str) -> list[range]:
        """Return the rows of the blocks from that of the first of these places to the one after that of the last."""
        num_blocks = len(self._edges) - 1
        first, last = (self._turn(int(nth), seed, purpose) for nth in (nth_B.min(), nth_B.max()))
        return [self._rows(*divmod(turn, num_blocks), seed, purpose) for turn in range(first, last + 2)]

    def _turn(self, nth: int, seed: int, purpose: str) -> int:
        """Return the number of blocks before that of a place of the sequence."""
        epoch, place = divmod(nth, len(self))
        slot_1, _ = self._slots(np.array([place]), seed, purpose, epoch)
        return epoch * (len(self._edges) - 1) + int(slot_1[0])

    def _rows(self, epoch: int, slot: int, seed: int, purpose: str) -> range:
        block = int(self._epoch(seed, purpose, epoch)[0][slot])
        return range(int(self._edges[block]), int(self._edges[block + 1]))

    def _slots(self, place_B: np.ndarray, seed: int, purpose: str, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the place of the block among the blocks of an epoch, and the place in the block: two int64 [B]."""
        _, start_K = self._epoch(seed, purpose, epoch)
        slot_B = np.searchsorted(start_K, place_B, side="right") - 1
        return slot_B, place_B - start_K[slot_B]

    def _epoch(self, seed: int, purpose: str, epoch: int) -> np.ndarray:
        """Return the blocks of an epoch in their order, and the first place of each: int64 [2, K]."""

        def drawn() -> np.ndarray:
            block_K = np.arange(len(self._edges) - 1)
            if len(block_K) > 1:
                block_K = Bijection(len(block_K), seed=seed, purpose=f"{purpose} of blocks", epoch=epoch)(block_K)
            size_K = np.diff(self._edges)[block_K]
            return np.stack([block_K, np.cumsum(size_K) - size_K])

        return self._kept_or(drawn, seed, purpose, epoch, "blocks")

    def _shuffled_rows(self, seed: int, purpose: str, epoch: int, block: int) -> np.ndarray:
        """Return the rows of a block in their order: int64."""
        first, end = self._edges[block : block + 2].tolist()
        return self._kept_or(
            lambda: first + _permutation(seed, purpose, epoch, block, end - first), seed, purpose, epoch, block
        )

    def _kept_or(self, drawn: Callable[[], np.ndarray], *key: Hashable) -> np.ndarray:
        if key not in self._kept:
            if len(self._kept) == KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = drawn()
        return self._kept[key]


def _sources_at(seed: int, purpose: str, place_B: np.ndarray, quotas: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source at each place, and the number of earlier places of that source in the run: two int64 [B]."""
    block_B, offset_B = np.divmod(place_B, BLOCK)
    source_B, nth_B = np.empty_like(place_B), np.empty_like(place_B)
    for block in np.unique(block_B):
        here_B = block_B == block
        source_K, rank_K = _block(seed, purpose, int(block), quotas)
        source_B[here_B] = source_K[offset_B[here_B]]
        nth_B[here_B] = block * np.array(quotas)[source_B[here_B]] + rank_K[offset_B[here_B]]
    return source_B, nth_B


def _turns_at(seed: int, purpose: str, place_B: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source at each place, and the number of earlier places of that source in the run: two int64 [B].

    In an epoch the first source has the places x at which floor(x * size / total) grows. The others share the rest of
    them in the same way.
    """
    total = sum(sizes)
    epoch_B, offset_B = np.divmod(place_B, total)
    turn_B = _shuffled(seed, purpose, epoch_B, offset_B, total).astype(object)  # products exceed 64 bits
    source_B, nth_B = np.full_like(place_B, -1), np.empty_like(place_B)
    for source, size in enumerate(sizes):
        before_B = turn_B * size // total
        here_B = (source_B < 0) & ((turn_B + 1) * size // total > before_B)
        source_B[here_B] = source
        nth_B[here_B] = epoch_B[here_B] * size + before_B[here_B]
        turn_B -= before_B
        total -= size
    return source_B, nth_B


def _shuffled(seed: int, purpose: str, epoch_B: np.ndarray, offset_B: np.ndarray, num_places: int) -> np.ndarray:
    """Permute the places of each block of an epoch; the last block may be shorter."""
    block_B, within_B = np.divmod(offset_B, BLOCK)
    shuffled_B = np.empty_like(offset_B)
    for epoch, block in np.unique(np.stack([epoch_B, block_B]), axis=1).T.tolist():
        here_B = (epoch_B == epoch) & (block_B == block)
        first = block * BLOCK
        order_K = _permutation(seed, purpose, epoch, block, min(BLOCK, num_places - first))
        shuffled_B[here_B] = first + order_K[within_B[here_B]]
    return shuffled_B


@lru_cache(maxsize=4)  # two blocks for pictures and two for shuffled captions
def _block(seed: int, purpose: str, block: int, quotas: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source at each place of a block, and the number of earlier places of it there: two int64 [K]."""
    order_K = address.generator(seed=seed, purpose=purpose, epoch=block).permutation(BLOCK)
    source_K = np.repeat(np.arange(len(quotas)), quotas)[order_K]
    rank_K = np.empty_like(source_K)
    for source, quota in enumerate(quotas):
        rank_K[source_K == source] = np.arange(quota)
    return source_K, rank_K


def _permutation(seed: int, purpose: str, epoch: int, block: int, num_rows: int) -> np.ndarray:
    return address.generator(seed=seed, purpose=purpose, epoch=epoch, sample_id=block).permutation(num_rows)
