"""Images of a split as squares or in their own sizes, read by worker processes, and those that cannot be used.

Letters: B images, P side of the network's input, in pixels.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aimv2.base.errors import BadSampleError, RunFailedError
from aimv2.base.processes import in_threads
from aimv2.config.native import own_size
from aimv2.data.decode import square, whole
from aimv2.datasets.records import Records


class Unusable(NamedTuple):
    """A sample that cannot be used: its row and key, the reason (``aimv2.base.errors``) and the detail."""

    row: int
    key: str
    reason: str
    detail: str

    @classmethod
    def of(cls, records: Records, row: int, error: BadSampleError) -> "Unusable":
        return cls(row, records.key(row), error.reason, error.detail)


class Shape(NamedTuple):
    """How an image becomes a square: its shorter side is resized, and the centre is cut out.

    Attributes:
        image_px: P.
        crop: share of the shorter side that the square shows; ml-aim's validation transform has 0.875.
        max_pixels: the largest image to decode.
    """

    image_px: int
    crop: float
    max_pixels: int

    @property
    def blank(self) -> tuple[int, int, int]:
        """The size of the black image in place of one that cannot be used."""
        return self.image_px, self.image_px, 3

    def shown(self, content: bytes) -> np.ndarray:
        """Return the square: uint8 [P, P, 3]; BadSampleError if the image cannot be decoded."""
        resized_px = round(self.image_px / self.crop)
        start = (resized_px - self.image_px) // 2
        resized = square(content, resized_px, self.max_pixels)
        return resized[start : start + self.image_px, start : start + self.image_px]


class OwnShape(NamedTuple):
    """How an image keeps its own size and aspect ratio: all of it is shown, in whole patches.

    Attributes:
        area: patches of an image; larger ones are made smaller.
        patch_px: side of a patch.
        max_pixels: the largest image to decode.
    """

    area: int
    patch_px: int
    max_pixels: int

    @property
    def blank(self) -> tuple[int, int, int]:
        return self.patch_px, 2 * self.patch_px, 3

    def shown(self, content: bytes) -> np.ndarray:
        """Return the image: uint8 [height, width, 3]; BadSampleError if it cannot be decoded."""
        return whole(content, partial(own_size, patch_px=self.patch_px, area=self.area), self.max_pixels)


def pictures(
    records: Records, rows: Sequence[int], shape: Shape | OwnShape, unusable: list[Unusable]
) -> Iterator[np.ndarray]:
    """Yield the image of each row, uint8 [height, width, 3]: black where it cannot be used.

    Args:
        unusable: rows that cannot be used are appended.

    Raises:
        RunFailedError: the location is broken.
    """

    def shown(row: int) -> np.ndarray | BadSampleError:
        try:
            return shape.shown(records.image(row))
        except BadSampleError as error:
            return error

    for row, found in zip(rows, in_threads(shown, rows, records.concurrency), strict=True):
        if isinstance(found, BadSampleError):
            unusable.append(Unusable.of(records, row, found))
            yield np.zeros(shape.blank, dtype=np.uint8)
        else:
            yield found


class PictureBatch(NamedTuple):
    """Images of a batch of B rows, by size, and those that cannot be used, which are black.

    Attributes:
        by_size: places in the batch, int64, and their images, uint8 [some, height, width, 3].
    """

    by_size: list[tuple[Tensor, Tensor]]
    unusable: list[Unusable]


class PictureBatches(Dataset[PictureBatch]):
    """The images of rows by the number of the batch."""

    def __init__(self, records: Records, rows: Sequence[int], shape: Shape | OwnShape, batch_size: int) -> None:
        self._records, self._rows, self._shape, self._batch_size = records, rows, shape, batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, number: int) -> PictureBatch:
        rows = self._rows[number * self._batch_size : (number + 1) * self._batch_size]
        unusable: list[Unusable] = []
        found = list(pictures(self._records, rows, self._shape, unusable))
        places: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(found):
            places.setdefault(image.shape, []).append(place)
        by_size = [
            (torch.tensor(some), torch.from_numpy(np.stack([found[place] for place in some])))
            for some in places.values()
        ]
        return PictureBatch(by_size, unusable)


def counts(unusable: Sequence[Unusable]) -> str:
    """Return the number of unusable images by reason: ``3 undecodable image, 1 missing image``."""
    return ", ".join(f"{number} {reason}" for reason, number in Counter(each.reason for each in unusable).most_common())


def check_rate(unusable: Sequence[Unusable], num_rows: int, max_bad_rate: float, split: str) -> None:
    """Raise a RunFailedError if too many images cannot be used."""
    if len(unusable) > max_bad_rate * num_rows:
        raise RunFailedError(
            "data",
            f"{split}: {len(unusable):,} of {num_rows:,} images cannot be used ({counts(unusable)}; the first is"
            f" {unusable[0].key!r}: {unusable[0].detail}), which is more than max_bad_rate={max_bad_rate:g}",
        )
