"""The order of samples, a pure function of the seed and the place in the run, whatever the number of rows.

A place is the index of a sample in the run. Letters: B samples, K places of a block of the mixture.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aimv2.base import address
from aimv2.base.address import Bijection

BLOCK = 1000  # places over which the shares of a mixture are exact


class Mixture(NamedTuple):
    """The share of each source in training.

    Attributes:
        sources: names of the sources, which are part of the addresses of their orders.
        quotas: places of each source in every block; they sum to BLOCK. None shows every row of all sources once an
            epoch.
        rows: the rows of each source; not empty where the quota is above 0.
        block_rows: ``Pairs.block_rows`` of each source.
    """

    sources: tuple[str, ...]
    quotas: tuple[int, ...] | None
    rows: tuple[range, ...]
    block_rows: tuple[int, ...]


def quotas(weights: Sequence[float]) -> tuple[int, ...]:
    """Return the places of each source in a block: shares of BLOCK by largest remainder, ties to the earlier source.

    Weights are finite, at least 0 and not all 0 (not checked here). A weight of 0 gets no place; a small one may also
    get none.
    """
    exact = [Fraction(weight) for weight in weights]  # exact, so that equal remainders compare equal
    total = sum(exact)
    shares = [BLOCK * weight / total for weight in exact]
    whole = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda source: whole[source] - shares[source])
    for source in by_remainder[: BLOCK - sum(whole)]:
        whole[source] += 1
    return tuple(whole)


def sample_order(
    place_B: np.ndarray,
    *,
    seed: int,
    num_rows: int,
    block_rows: int,
    mixture: Mixture | None = None,
    purpose: str = "order",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs and rows of the samples at these places of a run: two int64 [B].

    Each epoch is a permutation of all rows (``_rows_at``). In a mixture each source has its own epochs: its quota is
    placed at random in every block, and the n-th of its places in the run shows the n-th row of its permutations. Arms
    with different shares therefore show the same samples of a source in the same order. Without quotas all sources have
    the same epochs, in which they take turns in proportion to their sizes, at random within BLOCK places.

    Args:
        place_B: int64 [B].
        num_rows, block_rows: of all sources together; unused with a mixture.
        purpose: purpose of the random address; another one gives an independent order.
    """
    if mixture is None:
        return _rows_at(seed, purpose, place_B, num_rows, block_rows)
    of_sources = f"{purpose} of sources"
    if mixture.quotas is None:
        source_B, nth_B = _turns_at(seed, of_sources, place_B, [len(rows) for rows in mixture.rows])
    else:
        source_B, nth_B = _sources_at(seed, of_sources, place_B, mixture.quotas)
    epoch_B, row_B = np.empty_like(place_B), np.empty_like(place_B)
    for source, (name, rows, block) in enumerate(zip(mixture.sources, mixture.rows, mixture.block_rows, strict=True)):
        here_B = source_B == source
        if here_B.any():
            epoch_B[here_B], row_B[here_B] = _rows_at(seed, f"{purpose} in {name}", nth_B[here_B], len(rows), block)
            row_B[here_B] += rows.start
    return epoch_B, row_B


def _rows_at(
    seed: int, purpose: str, place_B: np.ndarray, num_rows: int, block_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs and rows at these places of a sequence of permutations: two int64 [B].

    An epoch is a permutation of blocks of consecutive rows, by a keyed bijection, and of the rows in each block. A run
    therefore reads from few places of the data at a time, and holds the permutation of a block, never of all rows.
    """
    epoch_B, place_B = np.divmod(place_B, num_rows)
    row_B = np.empty_like(place_B)
    for epoch in np.unique(epoch_B).tolist():
        here_B = epoch_B == epoch
        block_B, offset_B = _blocks_at(seed, purpose, epoch, place_B[here_B], num_rows, block_rows)
        rows_B = np.empty_like(offset_B)
        for block in np.unique(block_B).tolist():
            in_block_B = block_B == block
            first = block * block_rows
            order = _permutation(seed, purpose, epoch, block, min(block_rows, num_rows - first))
            rows_B[in_block_B] = first + order[offset_B[in_block_B]]
        row_B[here_B] = rows_B
    return epoch_B, row_B


def _blocks_at(
    seed: int, purpose: str, epoch: int, place_B: np.ndarray, num_rows: int, block_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the block at each place of an epoch, and the place within the block: two int64 [B].

    All blocks have the same number of rows, but for the last one, which may be shorter, wherever it comes.
    """
    num_blocks = -(-num_rows // block_rows)
    if num_blocks == 1:
        return np.zeros_like(place_B), place_B
    bijection = Bijection(num_blocks, seed=seed, purpose=f"{purpose} of blocks", epoch=epoch)
    missing = num_blocks * block_rows - num_rows  # rows that the last block lacks
    last_start = int(bijection.inverse(np.array([num_blocks - 1]))[0]) * block_rows
    # As if the last block were full: places after it move on by the rows that it lacks.
    full_B = np.where(place_B >= last_start + block_rows - missing, place_B + missing, place_B)
    slot_B, offset_B = np.divmod(full_B, block_rows)
    return bijection(slot_B), offset_B


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


@lru_cache(maxsize=16)  # two blocks of four sources, for pictures and shuffled captions
def _permutation(seed: int, purpose: str, epoch: int, block: int, num_rows: int) -> np.ndarray:
    return address.generator(seed=seed, purpose=purpose, epoch=epoch, sample_id=block).permutation(num_rows)
