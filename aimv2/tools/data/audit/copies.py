"""Near copies: perceptual hashes of images, pairs of hashes that are near, and how well both work on given images.

The hash is imagehash's ``phash``: a bit for each of the 64 lowest frequencies of a grey picture, is its coefficient of
the cosine transform above their median? Letters: N hashes, K pairs.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import imagehash
import numpy as np
from PIL import Image, ImageEnhance

THRESHOLD = 6  # bits; every audit measures what it finds and what it mistakes, a test does so on photographs
SIDE = 32  # of the picture that is hashed
FLAT = 2.0  # standard deviation of grey values below which a picture shows nothing to compare
NUM_BITS = 64
CHUNK = 512  # hashes that are compared with all others of their group at a time
CHANGED_SIDE = 224  # of the images that are changed
MOST_LOOKS = 2000  # hashes that are compared with each other for the rate of mistakes


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
                one_K, other_K = np.nonzero(distances(hash_N[chunk, None], hash_N[group]) <= max_distance)
                one_K, other_K = chunk[one_K], group[other_K]
                found.append((one_K * len(hash_N) + other_K)[one_K < other_K])
    place_K = np.unique(np.concatenate(found))
    return np.stack(np.divmod(place_K, max(len(hash_N), 1)), axis=1)


def distances(one_K: np.ndarray, other_K: np.ndarray) -> np.ndarray:
    """Return the number of different bits: uint8 [K]."""
    counts_K: np.ndarray = np.bitwise_count(one_K ^ other_K)
    return counts_K


def _jpeg(image: Image.Image) -> Image.Image:
    image.save(content := io.BytesIO(), "JPEG", quality=40)
    return Image.open(content)


def _trimmed(image: Image.Image) -> Image.Image:
    edge = round(image.width / 40)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 40": _jpeg,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "contrast x 1.3": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "5 % cropped": _trimmed,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def measured(pictures: Sequence[np.ndarray], look_N: np.ndarray) -> dict[str, Any]:
    """Return how well near copies are found in given images.

    Args:
        pictures: uint8 [CHANGED_SIDE, CHANGED_SIDE, 3] each.
        look_N: different hashes of the images, of which at most ``MOST_LOOKS`` are compared with each other. Near
            copies among them count as mistakes, so that rate is an upper bound.
    """
    own = [(Image.fromarray(picture), hashed) for picture in pictures if (hashed := look(picture)) is not None]
    found = {
        name: sum(_is_near(hashed, change(image)) for image, hashed in own) / len(own)
        for name, change in CHANGES.items()
        if own
    }
    look_N = look_N[:: max(1, len(look_N) // MOST_LOOKS)]
    return {
        "threshold": THRESHOLD,
        "found": found,
        "images changed": len(own),
        "different images that are near": len(near_pairs(look_N)),
        "of pairs": len(look_N) * (len(look_N) - 1) // 2,
    }


def _is_near(hashed: int, changed: Image.Image) -> bool:
    other = look(np.asarray(changed))
    return other is not None and (hashed ^ other).bit_count() <= THRESHOLD
