"""Images of a split as squares or in their own sizes, read by worker processes, and those that cannot be used.

Letters: B images, P side of the network's input, in pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aimv2.base.errors import BadSampleError
from aimv2.config.native import own_size
from aimv2.data.batches.loader import loaded
from aimv2.data.decode import whole
from aimv2.datasets.records import Records

Decode = Callable[[bytes, int, int], np.ndarray]  # aimv2.data.decode.square


class Bad(NamedTuple):
    """A sample that cannot be used: its row and key, the reason (``aimv2.base.errors``) and the detail."""

    row: int
    key: str
    reason: str
    detail: str


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

    def square(self, content: bytes, decode: Decode) -> np.ndarray:
        """Return the square: uint8 [P, P, 3].

        Raises:
            BadSampleError: the image cannot be decoded.
        """
        resized_px = round(self.image_px / self.crop)
        start = (resized_px - self.image_px) // 2
        whole = decode(content, resized_px, self.max_pixels)
        return whole[start : start + self.image_px, start : start + self.image_px]


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

    def resized(self, content: bytes) -> np.ndarray:
        """Return the image: uint8 [height, width, 3].

        Raises:
            BadSampleError: the image cannot be decoded.
        """
        return whole(content, partial(own_size, patch_px=self.patch_px, area=self.area), self.max_pixels)


class Batch(NamedTuple):
    """Images, uint8, black where one cannot be used: squares [B, P, P, 3], or [height, width, 3] each."""

    images: Tensor | list[Tensor]
    bad: list[Bad]


class Squares(Dataset[Batch]):
    """The images of rows as squares, by the number of the batch."""

    def __init__(self, records: Records, rows: Sequence[int], shape: Shape, batch_size: int, decode: Decode) -> None:
        self._records, self._rows, self._shape = records, rows, shape
        self._batch_size, self._decode = batch_size, decode

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        rows = self._rows[number * self._batch_size : (number + 1) * self._batch_size]
        images, bad = squares(self._records, rows, self._shape, self._decode)
        return Batch(torch.from_numpy(images), bad)


class OwnSizes(Dataset[Batch]):
    """The images of rows in their own sizes, by the number of the batch."""

    def __init__(self, records: Records, rows: Sequence[int], shape: OwnShape, batch_size: int) -> None:
        self._records, self._rows, self._shape, self._batch_size = records, rows, shape, batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        images: list[Tensor] = []
        bad: list[Bad] = []
        for row in self._rows[number * self._batch_size : (number + 1) * self._batch_size]:
            try:
                image = self._shape.resized(self._records.image(row))
            except BadSampleError as error:
                bad.append(Bad(row, self._records.key(row), error.reason, error.detail))
                image = np.zeros((self._shape.patch_px, 2 * self._shape.patch_px, 3), dtype=np.uint8)
            images.append(torch.from_numpy(image.copy()))
        return Batch(images, bad)


def squares(records: Records, rows: Sequence[int], shape: Shape, decode: Decode) -> tuple[np.ndarray, list[Bad]]:
    """Return the images of rows, uint8 [B, P, P, 3], and those that cannot be used, which are black.

    Raises:
        RunFailedError: the location is broken.
    """
    images = np.zeros((len(rows), shape.image_px, shape.image_px, 3), dtype=np.uint8)
    bad = []
    for place, row in enumerate(rows):
        try:
            images[place] = shape.square(records.image(row), decode)
        except BadSampleError as error:
            bad.append(Bad(row, records.key(row), error.reason, error.detail))
    return images, bad


def batches(dataset: Squares | OwnSizes, workers: int, *, pin_memory: bool) -> Iterator[Batch]:
    """Yield all batches in order, read by worker processes if there are any; errors as the dataset."""
    return loaded(dataset, range(len(dataset)), num_workers=workers, pin_memory=pin_memory)


def counts(bad: Sequence[Bad]) -> str:
    """Return the number of unusable images by reason: ``3 undecodable image, 1 missing image``."""
    return ", ".join(f"{number} {reason}" for reason, number in Counter(each.reason for each in bad).most_common())
