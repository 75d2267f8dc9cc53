"""The order of samples, a pure function of the seed and the place in the run.

A place is the index of a sample in the run. Letters: B samples, K places of a block.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aimv2 import address

BLOCK = 1000  # places over which the shares of a mixture are exact


class Mixture(NamedTuple):
    """The share of each source in training.

    Attributes:
        sources: names of the sources, which are part of the addresses of their orders.
        quotas: places of each source in every block; they sum to BLOCK.
        rows: table rows of each source, int64; not empty where the quota is above 0.
    """

    sources: tuple[str, ...]
    quotas: tuple[int, ...]
    rows: tuple[np.ndarray, ...]


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
    *, seed: int, start: int, stop: int, num_rows: int, mixture: Mixture | None = None, purpose: str = "order"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs and rows of the samples at places start..stop-1 of a run: two int64 [stop - start].

    Each epoch is a permutation of all rows; a batch may start in one epoch and end in the next. In a mixture each
    source has its own epochs: its quota is placed at random in every block, and the n-th of its places in the run shows
    the n-th row of its permutations. Arms with different shares therefore show the same samples of a source in the same
    order.

    Args:
        num_rows: rows of all sources; unused with a mixture.
        purpose: purpose of the random address; another one gives an independent order.
    """
    place_B = np.arange(start, stop)
    if mixture is None:
        return _rows_at(seed, purpose, place_B, num_rows)
    source_B, nth_B = _sources_at(seed, f"{purpose} of sources", place_B, mixture.quotas)
    epoch_B, row_B = np.empty_like(place_B), np.empty_like(place_B)
    for source, (name, rows) in enumerate(zip(mixture.sources, mixture.rows, strict=True)):
        here_B = source_B == source
        if here_B.any():
            epoch_B[here_B], own_row_B = _rows_at(seed, f"{purpose} in {name}", nth_B[here_B], len(rows))
            row_B[here_B] = rows[own_row_B]
    return epoch_B, row_B


def _rows_at(seed: int, purpose: str, place_B: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs and rows at these places of a sequence of permutations: two int64 [B]."""
    epoch_B = place_B // num_rows
    row_B = np.empty_like(place_B)
    for epoch in np.unique(epoch_B):
        here_B = epoch_B == epoch
        row_B[here_B] = _permutation(seed, purpose, int(epoch), num_rows)[place_B[here_B] % num_rows]
    return epoch_B, row_B


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


@lru_cache(maxsize=4)  # two blocks for pictures and two for shuffled captions
def _block(seed: int, purpose: str, block: int, quotas: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source at each place of a block, and the number of earlier places of it there: two int64 [K]."""
    order_K = address.generator(seed=seed, purpose=purpose, epoch=block).permutation(BLOCK)
    source_K = np.repeat(np.arange(len(quotas)), quotas)[order_K]
    rank_K = np.empty_like(source_K)
    for source, quota in enumerate(quotas):
        rank_K[source_K == source] = np.arange(quota)
    return source_K, rank_K


@lru_cache(maxsize=12)  # two epochs of three sources, for pictures and shuffled captions
def _permutation(seed: int, purpose: str, epoch: int, num_rows: int) -> np.ndarray:
    return address.generator(seed=seed, purpose=purpose, epoch=epoch).permutation(num_rows)
