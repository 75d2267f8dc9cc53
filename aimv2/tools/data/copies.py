"""Near copies: perceptual hashes of images, and pairs of hashes that are near.

The hash is imagehash's ``phash``: a bit for each of the 64 lowest frequencies of a grey picture, is its coefficient of
the cosine transform above their median? Letters: N hashes, K pairs.
"""

import imagehash
import numpy as np
from PIL import Image

THRESHOLD = 6  # bits; a test measures on photographs what it finds and what it mistakes
SIDE = 32  # of the picture that is hashed
FLAT = 2.0  # standard deviation of grey values below which a picture shows nothing to compare
NUM_BITS = 64
CHUNK = 512  # hashes that are compared with all others of their group at a time


def look(picture: np.ndarray) -> int | None:
    """Return the perceptual hash of a picture, uint8 [S, S, 3]; None if it has almost one colour only."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if np.asarray(small.convert("L")).std() < FLAT:
        return None
    return int(str(imagehash.phash(small)), 16)


def near_pairs(hash_N: np.ndarray, max_distance: int = THRESHOLD) -> np.ndarray:
    """Return all pairs of different hashes that differ in few bits, without comparing all: int64 [K, 2], lower first.

    Of two hashes that differ in ``max_distance`` bits or fewer, at least one of ``max_distance + 1`` bands is equal, so
    that only the hashes of a band's group are compared (multi-index hashing, arXiv 1307.2982).

    Args:
        hash_N: uint64 [N], each once.
    """
    found = [np.empty(0, np.int64)]
    for bits in np.array_split(np.arange(NUM_BITS, dtype=np.uint64), max_distance + 1):
        band_N = (hash_N >> bits[0]) & np.uint64((1 << len(bits)) - 1)
        order_N = np.argsort(band_N, kind="stable")
        for group in np.split(order_N, np.flatnonzero(np.diff(band_N[order_N])) + 1):
            for start in range(0, len(group), CHUNK):
                chunk = group[start : start + CHUNK]
                one_K, other_K = np.nonzero(np.bitwise_count(hash_N[chunk, None] ^ hash_N[group]) <= max_distance)
                one_K, other_K = chunk[one_K], group[other_K]
                found.append((one_K * len(hash_N) + other_K)[one_K < other_K])
    place_K = np.unique(np.concatenate(found))
    return np.stack(np.divmod(place_K, max(len(hash_N), 1)), axis=1)
