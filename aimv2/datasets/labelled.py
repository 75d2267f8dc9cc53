"""Labelled sets in files: their images and labels, and evaluations of a run on them (``evaluation.sets``).

Letters: N rows, M chosen ones, B images, P side of the network's input, in pixels.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.base.processes import in_threads
from aimv2.config.run_config import RunConfig
from aimv2.data.decode import square
from aimv2.data.transfer import Task, TransferSet
from aimv2.data.transforms import CENTRE_CROP
from aimv2.datasets.description import read_labelled
from aimv2.datasets.open import content_version, copies_of, open_location
from aimv2.datasets.records import Records

VALIDATION_PARTS = 5  # one of five training images is for validation
NAMED = 3  # examples in an error
TEST_PART = 4  # one of so many images is for the test, or more if the others are fewer


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
    """How an image becomes a square: its shorter side is resized, and the centre is cut out."""

    image_px: int  # P
    crop: float  # share of the shorter side that the square shows; ml-aim's validation transform has 0.875
    max_pixels: int  # of the largest image to decode

    def shown(self, content: bytes) -> np.ndarray:
        """Return the square: uint8 [P, P, 3]; BadSampleError if the image cannot be decoded."""
        resized_px = round(self.image_px / self.crop)
        start = (resized_px - self.image_px) // 2
        resized = square(content, resized_px, self.max_pixels)
        return resized[start : start + self.image_px, start : start + self.image_px]


def pictures(records: Records, rows: Sequence[int], shape: Shape, unusable: list[Unusable]) -> Iterator[np.ndarray]:
    """Yield the image of each row, uint8 [P, P, 3]: black where it cannot be used, which is appended."""

    def shown(row: int) -> np.ndarray | BadSampleError:
        try:
            return shape.shown(records.image(row))
        except BadSampleError as error:
            return error

    for row, image in zip(rows, in_threads(shown, rows, records.concurrency), strict=True):
        if isinstance(image, BadSampleError):
            unusable.append(Unusable.of(records, row, image))
            image = np.zeros((shape.image_px, shape.image_px, 3), dtype=np.uint8)
        yield image


class PictureBatch(NamedTuple):
    """Images of a batch of rows, and those that cannot be used, which are black."""

    images: Tensor  # uint8 [B, P, P, 3]
    unusable: list[Unusable]


def picture_batch(records: Records, shape: Shape, rows: Sequence[int]) -> PictureBatch:
    unusable: list[Unusable] = []
    images = np.stack(list(pictures(records, rows, shape, unusable)))
    return PictureBatch(torch.from_numpy(images), unusable)


def counts(unusable: Sequence[Unusable]) -> str:
    """Return the number of unusable images by reason: ``3 undecodable image, 1 missing image``."""
    return ", ".join(f"{number} {reason}" for reason, number in Counter(each.reason for each in unusable).most_common())


def check_rate(unusable: Sequence[Unusable], num_rows: int, max_bad_rate: float, split: str) -> None:
    if len(unusable) > max_bad_rate * num_rows:
        raise RunFailedError(
            "data",
            f"{split}: {len(unusable):,} of {num_rows:,} images cannot be used ({counts(unusable)}; the first is"
            f" {unusable[0].key!r}: {unusable[0].detail}), which is more than max_bad_rate={max_bad_rate:g}",
        )


def labelled_sets(config: RunConfig, names: Sequence[str]) -> list[TransferSet]:
    """Return the sets that ``evaluation.sets`` names, each with one task of the set's name (in names of metrics).

    A set with another version than before is read again. Of each set at most
    ``evaluation.set_images`` images are read: those with the smallest hashes of their keys, a quarter of them for the
    test. Images are squares as of ``python -m aimv2 evaluate``.
    """
    evaluation, data = config.evaluation, config.data
    shape = Shape(config.model.image_px, CENTRE_CROP, data.max_pixels)
    limits, copies = (evaluation.set_images, data.max_bad_rate), copies_of(data)
    return [
        _labelled_set(Path(path), name, content_version(path), shape, *limits, copies)
        for path, name in zip(evaluation.sets, names, strict=True)
    ]


@lru_cache(maxsize=8)  # a worker's runs are all evaluated on the same sets; one of another version is read again
def _labelled_set(
    path: Path,
    name: str,
    version: str,
    shape: Shape,
    max_images: int,
    max_bad_rate: float,
    copies: tuple[str, int],
) -> TransferSet:
    described = read_labelled(path)
    if not described.train:
        raise UsageError(f"{path}: an evaluation of a run needs train")
    records = {split: open_location(place, *copies) for split, place in described.splits()}
    parts = {
        name: _read(records[source], row_M, described.label, name, shape, max_bad_rate)
        for name, (source, row_M) in _chosen(records, max_images).items()
    }
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    if not all(len(part.images) for part in parts.values()):
        raise UsageError(f"{path}: each of train, validation and test needs a usable image")
    number = class_numbers(train.text_M, [*validation.text_M, *test.text_M])
    class_M1 = [np.array([[number[text]] for text in part.text_M]) for part in (train, validation, test)]
    task = Task(name, len(number), *class_M1)
    return TransferSet(train.images, validation.images, test.images, test.item_M, (task,), is_whole=True)


class _Part(NamedTuple):
    """Usable images of a split, uint8 [M, P, P, 3], their labels, and their numbers as items, int64 [M]."""

    images: np.ndarray
    text_M: list[str]
    item_M: np.ndarray


def _chosen(records: Mapping[str, Records], max_images: int) -> dict[str, tuple[str, np.ndarray]]:
    """Return, for each split, the location that it is read from and the rows."""
    num_others = sum(len(found) for split, found in records.items() if split != "test")
    test_N = _first(records["test"], max(max_images // TEST_PART, max_images - num_others))
    rest = max_images - len(test_N)
    if "validation" in records:
        validation_N = _first(records["validation"], rest // VALIDATION_PARTS)
        train_N = _first(records["train"], rest - len(validation_N))
        return {"train": ("train", train_N), "validation": ("validation", validation_N), "test": ("test", test_N)}
    both_N = _first(records["train"], rest)
    is_validation_N = is_validation(records["train"], both_N)
    return {
        "train": ("train", both_N[~is_validation_N]),
        "validation": ("train", both_N[is_validation_N]),
        "test": ("test", test_N),
    }


def _first(records: Records, num_rows: int) -> np.ndarray:
    """Return the rows with the smallest hashes of their keys, in ascending order."""
    order_N = np.argsort(records.key_hashes(np.arange(len(records))), kind="stable")
    return np.sort(order_N[:num_rows])


def _read(records: Records, row_M: np.ndarray, label: str, split: str, shape: Shape, max_bad_rate: float) -> _Part:
    rows, unusable = row_M.tolist(), list[Unusable]()
    images = np.zeros((len(rows), shape.image_px, shape.image_px, 3), dtype=np.uint8)
    for place, image in enumerate(pictures(records, rows, shape, unusable)):
        images[place] = image
    found = read_labels(records, label, split, rows)
    unusable += found.unusable
    check_rate(unusable, len(rows), max_bad_rate, split)
    kept = np.flatnonzero(~np.isin(row_M, [each.row for each in unusable]))
    item_M = (records.key_hashes(row_M[kept]) >> np.uint64(1)).astype(np.int64)
    return _Part(images[kept], [found.text_N[place] for place in kept], item_M)


class Labels(NamedTuple):
    """The label of each row of a split, and the rows whose label cannot be read."""

    text_N: list[str]  # empty for those rows
    unusable: list[Unusable]


def read_labels(records: Records, field: str, split: str, rows: Iterable[int]) -> Labels:
    """Read the labels of rows; a sample without one is a UsageError."""

    def read(row: int) -> tuple[int, Any]:
        try:
            return row, records.field(row, field)
        except BadSampleError as error:
            return row, error

    texts, unusable = [], []
    for row, value in in_threads(read, rows, records.concurrency):
        if isinstance(value, BadSampleError):
            unusable.append(Unusable.of(records, row, value))
            texts.append("")
            continue
        text = _as_text(value)
        if not text:
            found = "no" if value is None else f"{value!r} as"
            raise UsageError(
                f"{split}: sample {records.key(row)!r} has {found} {field}; label must be a field with text or whole"
                " numbers in every sample"
            )
        texts.append(text)
    return Labels(texts, unusable)


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, (str, int, np.integer)) else ""


def class_numbers(train: Sequence[str], test: Sequence[str]) -> dict[str, int]:
    """Return the number of each class of the training images."""
    classes = sorted(set(train) - {""})
    if len(classes) < 2:
        raise UsageError(f"train has the class {', '.join(classes) or 'of no sample'} only; two are needed")
    if others := sorted(set(test) - {"", *classes}):
        rest = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise UsageError(f"validation or test has classes that train does not have: {', '.join(others[:NAMED])}{rest}")
    return {name: number for number, name in enumerate(classes)}


def is_validation(records: Records, row_N: np.ndarray) -> np.ndarray:
    """True for the rows that are for validation, by the hash of their keys: bool [N]."""
    # By the remainder, because the held-out pairs of a source are those with the smallest hashes.
    is_validation_N: np.ndarray = records.key_hashes(row_N) % np.uint64(VALIDATION_PARTS) == 0
    return is_validation_N
