"""Crop boxes and flips as functions of uniform numbers. Letters: B images, A attempts, U uniform numbers."""

import math

import numpy as np

from aimv2.config.data_config import AugmentConfig

CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
NUM_CROP_DRAWS = 2 * CROP_ATTEMPTS + 3


def random_crops(
    uniform_BU: np.ndarray, height: int, width: int, config: AugmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the boxes of RandomResizedCrop, and flips, from uniform numbers; the config has values for all.

    As in torchvision, the area is uniform in the scale range and the aspect ratio log-uniform, both rounded to pixels.
    Of ten attempts the first that fits counts, or else the largest centred box of an allowed ratio.

    Args:
        uniform_BU: float64 [B, NUM_CROP_DRAWS] on [0, 1).
        height, width: size of all source images in pixels.

    Returns:
        int64 [B, 4] (top, left, height, width) and bool [B], True to flip.

    Source: ``RandomResizedCrop.get_params`` of torchvision.
    """

    assert config.min_scale is not None, "AugmentConfig.of() sets it"
    assert config.flip_probability is not None, "AugmentConfig.of() sets it"

    def between(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
        return low + uniform * (high - low)

    area_BA = height * width * between(uniform_BU[:, :CROP_ATTEMPTS], config.min_scale, config.max_scale)
    log_ratios = math.log(config.min_ratio), math.log(config.max_ratio)
    ratio_BA = np.exp(between(uniform_BU[:, CROP_ATTEMPTS : 2 * CROP_ATTEMPTS], *log_ratios))
    width_BA = np.rint(np.sqrt(area_BA * ratio_BA)).astype(np.int64)
    height_BA = np.rint(np.sqrt(area_BA / ratio_BA)).astype(np.int64)
    fits_BA = (width_BA > 0) & (width_BA <= width) & (height_BA > 0) & (height_BA <= height)

    rows = np.arange(len(uniform_BU))
    first_B = fits_BA.argmax(axis=1)
    largest_height = max(min(round(width / config.min_ratio), height), 1)
    largest_width = max(min(round(height * config.max_ratio), width), 1)
    any_B = fits_BA.any(axis=1)
    height_B = np.where(any_B, height_BA[rows, first_B], largest_height)
    width_B = np.where(any_B, width_BA[rows, first_B], largest_width)
    top_B = np.where(any_B, uniform_BU[:, -3] * (height - height_B + 1), (height - height_B) // 2).astype(np.int64)
    left_B = np.where(any_B, uniform_BU[:, -2] * (width - width_B + 1), (width - width_B) // 2).astype(np.int64)
    return np.stack([top_B, left_B, height_B, width_B], axis=1), uniform_BU[:, -1] < config.flip_probability
