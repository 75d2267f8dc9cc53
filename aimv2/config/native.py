"""Native resolution: the area that a step draws for its images, and the grid of an image within it.

Letters: S steps, K areas, A patches of an area.
"""

import math
from functools import lru_cache

import numpy as np

from aimv2.base import address
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import NativeConfig


class Steps:
    """The images of each step of a run: as many in all steps, or by areas that are drawn.

    A drawn area is a function of the seed and the step.
    """

    def __init__(self, config: RunConfig) -> None:
        self._patches = config.budget.batch_size * config.model.num_patches
        self._areas = config.native.areas or (config.model.num_patches,)
        self._drawn_S: np.ndarray | None = None  # numbers of areas
        if len(self._areas) > 1:
            self._drawn_S = _drawn(config.native, config.seed, config.budget.num_steps)

    def area(self, step: int) -> int:
        """Return the patches that an image of the step has at most."""
        return self._areas[0 if self._drawn_S is None else int(self._drawn_S[step])]

    def num_images(self, step: int) -> int:
        return self._patches // self.area(step)

    def images_by_area(self, num_steps: int) -> dict[int, int]:
        """Return the number of images of the first steps, by their area."""
        if self._drawn_S is None:
            return {self._areas[0]: num_steps * self.num_images(0)}
        count_K = np.bincount(self._drawn_S[:num_steps], minlength=len(self._areas)).tolist()
        return {area: count * (self._patches // area) for area, count in zip(self._areas, count_K, strict=True)}

    def first(self, step: int) -> int:
        """Return the place in the run of the step's first sample."""
        return sum(self.images_by_area(step).values())


@lru_cache(maxsize=4)
def _drawn(config: NativeConfig, seed: int, num_steps: int) -> np.ndarray:
    """Return the number of each step's area: int8 [S]."""
    step_S = np.arange(num_steps)
    uniform_S = address.uniforms(
        seed=seed, purpose="area of a batch", epoch_B=np.zeros_like(step_S), sample_id_B=step_S, num_draws=1
    )[:, 0]
    number_S = np.searchsorted(np.cumsum(config.pmf()), uniform_S, side="right")
    # The last cumulative sum may round to just below 1.
    return np.minimum(number_S, len(config.areas) - 1).astype(np.int8)


def micro_batch_at(area: int, config: RunConfig, micro_batch: int) -> int:
    """Return the images of an area in a micro-batch: as many patches as in those of ``image_px``, or one image."""
    return max(micro_batch * config.model.num_patches // area, 1)


def grid_within(area: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the largest grid of patches within an area that has an image's aspect ratio.

    Both are rounded down, each is at least 1, and so the aspect ratio changes by less than a patch on each side.
    """
    rows, columns = math.isqrt(area * height // width), math.isqrt(area * width // height)
    return min(max(rows, 1), area), min(max(columns, 1), area)


def size_within(height: int, width: int, *, patch_px: int, area: int) -> tuple[int, int]:
    """Return height and width in pixels to which an image is resized, so that it fits the area in whole patches."""
    rows, columns = grid_within(area, height, width)
    return rows * patch_px, columns * patch_px
