"""Labelled sets in files: their labels, and evaluations of a run on them (``evaluation.sets``).

Letters: N rows, M chosen ones, P side.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.base.processes import in_threads
from aimv2.config.run_config import RunConfig
from aimv2.data.transfer import Task, TransferSet
from aimv2.data.transforms import CENTRE_CROP
from aimv2.datasets.description import read_labelled
from aimv2.datasets.images import Shape, Unusable, check_rate, pictures
from aimv2.datasets.open import open_location
from aimv2.datasets.plugin import set_version
from aimv2.datasets.records import Records

VALIDATION_PARTS = 5  # one of five training images is for validation
NAMED = 3  # examples in an error
TEST_PART = 4  # one of so many images is for the test, or more if the others are fewer


def labelled_sets(config: RunConfig, names: Sequence[str]) -> list[TransferSet]:
    """Return the sets that ``evaluation.sets`` names, each with one task of the set's name.

    Args:
        names: of the sets, in names of metrics.

    Of each set at most ``evaluation.set_images`` images are read: those with the smallest hashes of their keys, a
    quarter of them for the test. Images are squares as of ``python -m aimv2 evaluate``.

    Raises:
        UsageError: a description is wrong, a set has no training split or no index.
        RunFailedError: too many images cannot be used.
    """
    evaluation, data = config.evaluation, config.data
    shape = Shape(config.model.image_px, CENTRE_CROP, data.max_pixels)
    cache = str(Path(data.cache_dir) / "shards"), int(data.cache_gb * 1e9)
    return [
        _labelled_set(Path(path), name, set_version(path), shape, evaluation.set_images, data.max_bad_rate, *cache)
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
    cache_dir: str,
    cache_bytes: int,
) -> TransferSet:
    described = read_labelled(path)
    if not described.train:
        raise UsageError(f"{path}: an evaluation of a run needs train")
    records = {
        name: open_location(place, cache_dir, cache_bytes)
        for name in ("train", "validation", "test")
        if (place := getattr(described, name)) is not None
    }
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
    images = np.zeros((len(rows), *shape.blank), dtype=np.uint8)
    for place, image in enumerate(pictures(records, rows, shape, unusable)):
        images[place] = image
    found = read_labels(records, label, split, rows)
    unusable += found.unusable
    check_rate(unusable, len(rows), max_bad_rate, split)
    kept = np.flatnonzero(~np.isin(row_M, [each.row for each in unusable]))
    item_M = (records.key_hashes(row_M[kept]) >> np.uint64(1)).astype(np.int64)
    return _Part(images[kept], [found.text_N[place] for place in kept], item_M)


class Labels(NamedTuple):
    """The label of each row of a split, and the rows whose label cannot be read.

    Attributes:
        text_N: labels as text; empty for those rows.
    """

    text_N: list[str]
    unusable: list[Unusable]


def read_labels(records: Records, field: str, split: str, rows: Iterable[int]) -> Labels:
    """Read the labels of rows.

    Args:
        rows: read once, in their order.

    Raises:
        UsageError: a sample has no such field, or one that is neither text nor a whole number.
    """

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
    """Return the number of each class of the training images.

    Raises:
        UsageError: there is only one class, or the test images have others.
    """
    classes = sorted(set(train) - {""})
    if len(classes) < 2:
        raise UsageError(f"train has the class {', '.join(classes) or 'of no sample'} only; two are needed")
    if others := sorted(set(test) - {"", *classes}):
        rest = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise UsageError(f"validation or test has classes that train does not have: {', '.join(others[:NAMED])}{rest}")
    return {name: number for number, name in enumerate(classes)}


def is_validation(records: Records, row_N: np.ndarray) -> np.ndarray:
    """Return True for the rows that are for validation, by the hash of their keys: bool [N]."""
    # By the remainder, because the held-out pairs of a source are those with the smallest hashes.
    is_validation_N: np.ndarray = records.key_hashes(row_N) % np.uint64(VALIDATION_PARTS) == 0
    return is_validation_N
