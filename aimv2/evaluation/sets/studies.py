"""Labelled sets in files as evaluations of a run (``evaluation.sets``). Letters: N rows, M chosen ones, P side."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.config.run_config import RunConfig
from aimv2.data.decode import square
from aimv2.data.transfer import Task, TransferSet
from aimv2.data.transforms import CENTRE_CROP
from aimv2.datasets import labels
from aimv2.datasets.description import read_labelled
from aimv2.datasets.images import Shape, squares
from aimv2.datasets.open import open_location
from aimv2.datasets.records import Records
from aimv2.spec.metrics import set_name, set_names
from aimv2.tools.evaluate.encoding.features import check_rate

TEST_PART = 4  # one of so many images is for the test, or more if the others are fewer


def labelled_sets(config: RunConfig) -> list[TransferSet]:
    """Return the sets that ``evaluation.sets`` names, each with one task of the set's name.

    Of each set at most ``evaluation.set_images`` images are read: those with the smallest hashes of their keys, a
    quarter of them for the test. Images are squares as of ``python -m aimv2 evaluate``.

    Raises:
        UsageError: a description is wrong, a set has no label, no training split or no index, or its name is taken.
        RunFailedError: too many images cannot be used.
    """
    set_names(config)  # refuses names that are taken
    evaluation, data = config.evaluation, config.data
    shape = Shape(config.model.image_px, CENTRE_CROP, data.max_pixels)
    cache = str(Path(data.cache_dir) / "shards"), int(data.cache_gb * 1e9)
    return [
        _labelled_set(Path(path), shape, evaluation.set_images, data.max_bad_rate, *cache) for path in evaluation.sets
    ]


@lru_cache(maxsize=8)  # a worker's runs are all evaluated on the same sets
def _labelled_set(
    path: Path, shape: Shape, max_images: int, max_bad_rate: float, cache_dir: str, cache_bytes: int
) -> TransferSet:
    described = read_labelled(path)
    if not described.label or not described.train:
        raise UsageError(f"{path}: an evaluation of a run needs label and train")
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
    number = labels.class_numbers(train.text_M, [*validation.text_M, *test.text_M])
    class_M1 = [np.array([[number[text]] for text in part.text_M]) for part in (train, validation, test)]
    task = Task(set_name(str(path)), len(number), *class_M1)
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
        validation_N = _first(records["validation"], rest // labels.VALIDATION_PARTS)
        train_N = _first(records["train"], rest - len(validation_N))
        return {"train": ("train", train_N), "validation": ("validation", validation_N), "test": ("test", test_N)}
    both_N = _first(records["train"], rest)
    is_validation_N = labels.is_validation(records["train"], both_N)
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
    rows = row_M.tolist()
    images, bad = squares(records, rows, shape, square)
    found = labels.read_labels(records, label, split, rows)
    check_rate([*bad, *found.bad], len(rows), max_bad_rate, split)
    bad_rows = {each.row for each in (*bad, *found.bad)}
    kept = [place for place, row in enumerate(rows) if row not in bad_rows]
    item_M = (records.key_hashes(row_M[kept]) >> np.uint64(1)).astype(np.int64)
    return _Part(images[kept], [found.text_N[place] for place in kept], item_M)
