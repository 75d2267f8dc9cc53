"""Images of a split as squares, read by worker processes, and the images that cannot be used.

Letters: B images, P side of the network's input, in pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aimv2.data.batches import loaded
from aimv2.data.files.records import Records
from aimv2.errors import BadSampleError

Decode = Callable[[bytes, int, int], np.ndarray]  # aimv2.data.files.decode.square


class Bad(NamedTuple):
    """A sample that cannot be used: its row and key, the reason (``aimv2.errors``) and the detail."""

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


class Batch(NamedTuple):
    """Squares, uint8 [B, P, P, 3], black where the image cannot be used."""

    images: Tensor
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


def batches(dataset: Squares, workers: int, *, pin_memory: bool) -> Iterator[Batch]:
    """Yield all batches in order, read by worker processes if there are any; errors as ``Squares``."""
    return loaded(dataset, range(len(dataset)), num_workers=workers, pin_memory=pin_memory)


def counts(bad: Sequence[Bad]) -> str:
    """Return the number of unusable images by reason: ``3 undecodable image, 1 missing image``."""
    return ", ".join(f"{number} {reason}" for reason, number in Counter(each.reason for each in bad).most_common())
