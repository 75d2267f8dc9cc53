"""How well near copies are found in given images: changed copies that should be, and other images that should not.

Letters: N images, U different perceptual hashes.
"""

import io
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

from aimv2.tools.data.audit import phash

SIDE = 224  # of the images that are changed


class Measured(NamedTuple):
    """Rates at a threshold.

    Attributes:
        found: share of the changed copies that count as near, by how they were changed.
        num_images: images that were changed.
        false: pairs of different images that count as near.
        num_pairs: pairs of different images that were compared.
    """

    found: dict[str, float]
    num_images: int
    false: int
    num_pairs: int


def _trimmed(image: Image.Image) -> Image.Image:
    edge = round(image.width / 40)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 40": lambda image: _jpeg(image, 40),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "contrast x 1.3": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "5 % cropped": _trimmed,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def measure(pictures: Iterable[np.ndarray], look_U: np.ndarray, threshold: int, max_looks: int = 2000) -> Measured:
    """Measure on images of the audited sources.

    Args:
        pictures: uint8 [SIDE, SIDE, 3] each.
        look_U: perceptual hashes of different images, of which at most ``max_looks`` are compared with each other. Near
            copies among them count as false, so the rate is an upper bound.
    """
    images = [Image.fromarray(picture) for picture in pictures]
    own_N, is_flat_N = _hashes(images)
    found: dict[str, float] = {}
    if not is_flat_N.all():
        for name, change in CHANGES.items():
            changed_N, _ = _hashes([change(image) for image in images])
            is_near_N = phash.distances(own_N, changed_N) <= threshold
            found[name] = float(is_near_N[~is_flat_N].mean())
    sampled_U = look_U[:: max(1, len(look_U) // max_looks)]
    false = sum(
        int((phash.distances(sampled_U[place + 1 :], sampled_U[place]) <= threshold).sum())
        for place in range(len(sampled_U))
    )
    return Measured(found, int((~is_flat_N).sum()), false, len(sampled_U) * (len(sampled_U) - 1) // 2)


def _hashes(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    size = (phash.SIDE, phash.SIDE)
    small = [np.asarray(image.resize(size, Image.Resampling.BICUBIC)) for image in images]
    return phash.hashes(np.stack(small) if small else np.zeros((0, *size, 3), np.uint8))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)
