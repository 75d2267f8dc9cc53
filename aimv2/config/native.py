"""Native resolution: the area that a step draws for its images, and the grid of an image within it.

Letters: S steps, K areas, A patches of an area.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base import address
from aimv2.config.data_config import CHECKED

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig  # which has a NativeConfig

MIN_AREA = 4  # below, a square image may have a single patch, which leaves none to predict
MAX_AREA = 2**20


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NativeConfig:
    """Training at native resolution: images keep their aspect ratio, and each step draws the area that they fit.

    Attributes:
        areas: numbers of patches, ascending, of which each step draws one with the probabilities ``pmf``. An image has
            at most as many, and the step as many images as keep the product of both constant. Empty is no native
            resolution: all images are squares of ``model.image_px``.

    Source: section 2.4. A = 2^n, with n from a standard normal that is truncated to [-1, 1] and mapped linearly onto
    [7, 12]. Ours: n is rounded, so that the number of images is whole.
    """

    areas: tuple[Annotated[int, Field(ge=MIN_AREA, le=MAX_AREA)], ...] = ()

    def __post_init__(self) -> None:
        if list(self.areas) != sorted(set(self.areas)):
            raise ValueError(f"areas={list(self.areas)} must ascend")

    def batch_multiple(self, num_patches: int, parts: int = 1) -> int:
        """Return the number of which the batch size is a multiple, so that each part has whole images of every area."""
        patches = parts * math.lcm(*self.areas)
        return math.lcm(parts, patches // math.gcd(patches, num_patches)) if self.areas else parts

    def pmf(self) -> np.ndarray:
        """Return the probability of each area: float64 [K]."""
        if len(self.areas) < 2:
            return np.ones(len(self.areas))
        last = len(self.areas) - 1
        # Numbers between two areas are rounded to the nearer one, so the first and the last have half as wide a range.
        edges = [-1.0, *(2 * (number + 0.5) / last - 1 for number in range(last)), 1.0]
        below = np.array([math.erf(edge / math.sqrt(2)) for edge in edges])
        pmf: np.ndarray = np.diff(below) / (below[-1] - below[0])
        return pmf


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


def own_size(height: int, width: int, *, patch_px: int, area: int) -> tuple[int, int]:
    """Return height and width in whole patches that are nearest below an image's own, or fit the area if it is larger.

    An image of a few patches is enlarged to MIN_AREA.
    """
    own_area = max(height * width // patch_px**2, MIN_AREA)
    return size_within(height, width, patch_px=patch_px, area=min(own_area, area))


def size_within(height: int, width: int, *, patch_px: int, area: int) -> tuple[int, int]:
    """Return height and width in pixels to which an image is resized, so that it fits the area in whole patches."""
    rows, columns = grid_within(area, height, width)
    return rows * patch_px, columns * patch_px
