"""Crop boxes and flips as functions of uniform numbers. Letters: B images, U uniform numbers."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from aimv2.config.data_config import AugmentConfig

CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
NUM_CROP_DRAWS = 2 * CROP_ATTEMPTS + 3


class Crop(NamedTuple):
    """A box in pixels, and whether it is flipped."""

    top: int
    left: int
    height: int
    width: int
    is_flipped: bool


def random_crop(uniform_U: np.ndarray, height: int, width: int, config: AugmentConfig) -> Crop:
    """Compute the box of RandomResizedCrop, and the flip, from uniform numbers; the config has values for all.

    As in torchvision, the area is uniform in the scale range and the aspect ratio log-uniform, both rounded to pixels.
    Of ten attempts the first that fits counts, or else the largest centred box of an allowed ratio.

    Args:
        uniform_U: float64 [NUM_CROP_DRAWS] on [0, 1).
        height, width: size of the image in pixels.

    Source: ``RandomResizedCrop.get_params`` of torchvision.
    """
    assert config.min_scale is not None, "AugmentConfig.of() sets it"
    assert config.flip_probability is not None, "AugmentConfig.of() sets it"
    *drawn, at_top, at_left, at_flip = uniform_U.tolist()
    is_flipped = at_flip < config.flip_probability
    low, high = math.log(config.min_ratio), math.log(config.max_ratio)
    for at_area, at_ratio in zip(drawn[:CROP_ATTEMPTS], drawn[CROP_ATTEMPTS:], strict=True):
        area = height * width * (config.min_scale + at_area * (config.max_scale - config.min_scale))
        ratio = float(np.exp(low + at_ratio * (high - low)))  # math.exp may differ in the last bit
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            return Crop(
                int(at_top * (height - rows + 1)), int(at_left * (width - columns + 1)), rows, columns, is_flipped
            )
    rows = max(min(round(width / config.min_ratio), height), 1)
    columns = max(min(round(height * config.max_ratio), width), 1)
    return Crop((height - rows) // 2, (width - columns) // 2, rows, columns, is_flipped)


def native_crop(uniform_U: np.ndarray, height: int, width: int, config: AugmentConfig) -> Crop:
    """Compute a crop whose aspect ratio is in the configured range relative to the image's own, and the flip."""
    own = width / height
    relative = dataclasses.replace(config, min_ratio=config.min_ratio * own, max_ratio=config.max_ratio * own)
    return random_crop(uniform_U, height, width, relative)


def random_crops(
    uniform_BU: np.ndarray, height: int, width: int, config: AugmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (top, left, height, width), int64 [B, 4], and flips, bool [B], of images of one size."""
    crops = [random_crop(uniform_U, height, width, config) for uniform_U in uniform_BU]
    return np.array([crop[:4] for crop in crops]), np.array([crop.is_flipped for crop in crops])
