"""Perceptual hashes of images, and pairs of them that are near. Letters: B images, S side, N hashes, K pairs.

The hash has a bit for each of the 64 lowest frequencies of a grey picture of 32 px: is its coefficient of the cosine
transform above their median? Copies that are resized, compressed or slightly changed keep most bits.

Source: the "pHash" of Zauner (2010); multi-index hashing (arXiv 1307.2982) for the search.
"""

import numpy as np
from scipy.fft import dctn

SIDE = 32
NUM_BITS = 64
NUM_BANDS = 4
BAND_BITS = NUM_BITS // NUM_BANDS
MAX_DISTANCE = 2 * NUM_BANDS - 1  # with more, two hashes could differ by two bits in every band
FLAT = 2.0  # standard deviation of grey values below which a picture shows nothing to compare
CHUNK = 2**22  # candidates that are compared at a time
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow

_ROWS, _COLUMNS = np.indices((SIDE, SIDE)).reshape(2, -1)
# The lowest frequencies, diagonal by diagonal, without the mean.
_FREQUENCIES = np.lexsort((_COLUMNS, _ROWS + _COLUMNS))[1 : NUM_BITS + 1]


def hashes(picture_BSSC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash pictures.

    Args:
        picture_BSSC: uint8 [B, SIDE, SIDE, 3].

    Returns:
        uint64 [B], and bool [B], True where a picture has almost one colour only, so that its hash means nothing.
    """
    grey_BSS = picture_BSSC.astype(np.float64) @ np.array(GREY)
    coefficient_BF = dctn(grey_BSS, axes=(1, 2), norm="ortho").reshape(-1, SIDE * SIDE)[:, _FREQUENCIES]
    bit_BF = coefficient_BF > np.median(coefficient_BF, axis=1, keepdims=True)
    hash_B = np.ascontiguousarray(np.packbits(bit_BF, axis=1, bitorder="little")).view("<u8").ravel().astype(np.uint64)
    return hash_B, grey_BSS.std(axis=(1, 2)) < FLAT


def distances(one_K: np.ndarray, other_K: np.ndarray) -> np.ndarray:
    """Return the number of different bits: int64 [K]."""
    counts_K: np.ndarray = np.bitwise_count(one_K ^ other_K).astype(np.int64)
    return counts_K


def near_pairs(hash_N: np.ndarray, max_distance: int) -> np.ndarray:
    """Return all pairs of different hashes that differ in few bits, without comparing all: int64 [K, 2], lower first.

    Of two hashes within MAX_DISTANCE, at least one of four bands of 16 bits differs in one bit or none. Candidates are
    therefore found by looking up each band, and the 16 values next to it, in the sorted bands.

    Args:
        hash_N: uint64 [N], each once.
        max_distance: at most MAX_DISTANCE.
    """
    assert max_distance <= MAX_DISTANCE, f"bands find distances up to {MAX_DISTANCE}"
    found = [np.empty(0, dtype=np.int64)]
    for band in range(NUM_BANDS):
        value_N = (hash_N >> np.uint64(BAND_BITS * band)).astype(np.uint16)
        order_N = np.argsort(value_N, kind="stable")
        sorted_N = value_N[order_N]
        for mask in [0, *(1 << bit for bit in range(BAND_BITS))]:
            wanted_N = value_N ^ np.uint16(mask)
            first_N = np.searchsorted(sorted_N, wanted_N, side="left")
            count_N = np.searchsorted(sorted_N, wanted_N, side="right") - first_N
            found += _near(hash_N, order_N, first_N, count_N, max_distance)
    place_K = np.unique(np.concatenate(found))
    return np.stack(np.divmod(place_K, max(len(hash_N), 1)), axis=1)


def _near(
    hash_N: np.ndarray, order_N: np.ndarray, first_N: np.ndarray, count_N: np.ndarray, max_distance: int
) -> list[np.ndarray]:
    """Return the near pairs among candidates, each as one number: lower x N + higher.

    Args:
        first_N, count_N: the candidates of each hash, a range of places in ``order_N``.
    """
    found = []
    end_N = np.cumsum(count_N)
    start = 0
    while start < len(hash_N):
        done = int(end_N[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(end_N, done + CHUNK, side="right")))
        one_K = np.repeat(np.arange(start, stop), count_N[start:stop])
        offset_K = np.arange(len(one_K)) - (end_N[start:stop] - count_N[start:stop] - done).repeat(count_N[start:stop])
        other_K = order_N[first_N[one_K] + offset_K]
        is_near_K = (one_K < other_K) & (np.bitwise_count(hash_N[one_K] ^ hash_N[other_K]) <= max_distance)
        found.append(one_K[is_near_K] * len(hash_N) + other_K[is_near_K])
        start = stop
    return found
