"""Labels and captions of a split, and the split of training images into training and validation.

Letters: N rows, M samples of a split.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.images import Bad
from aimv2.datasets.records import Records

VALIDATION_PARTS = 5  # one of five training images is for validation
NAMED = 3  # examples in an error


class Labels(NamedTuple):
    """The label of each row of a split, and the rows whose label cannot be read.

    Attributes:
        text_N: labels as text; empty for bad rows.
    """

    text_N: list[str]
    bad: list[Bad]


def read_labels(records: Records, field: str, split: str, rows: Iterable[int] | None = None) -> Labels:
    """Read the labels of rows, by default of all.

    Args:
        rows: read once, in their order.

    Raises:
        UsageError: a sample has no such field, or one that is neither text nor a whole number.
    """
    texts, bad = [], []
    for row in range(len(records)) if rows is None else rows:
        try:
            value = records.field(row, field)
        except BadSampleError as error:
            bad.append(Bad(row, records.key(row), error.reason, error.detail))
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
    return Labels(texts, bad)


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


def usable(num_rows: int, *bad: Sequence[Bad]) -> np.ndarray:
    """Return the rows without those that are bad: int64 [M], ascending."""
    is_usable_N = np.ones(num_rows, dtype=bool)
    is_usable_N[[each.row for some in bad for each in some]] = False
    return np.flatnonzero(is_usable_N)


def read_captions(records: Records, field: str, rows: Iterable[int]) -> tuple[dict[int, list[str]], list[Bad]]:
    """Return the captions of each row that has any, and the bad rows.

    Raises:
        UsageError: the field holds neither text nor a list of texts.
    """
    captions, bad = {}, []
    for row in rows:
        try:
            value = records.field(row, field)
            if value is None:
                raise BadSampleError("missing caption", field)
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) for text in texts):
                raise UsageError(
                    f"captions: {field} of sample {records.key(row)!r} is {value!r}; it must be text or a list of texts"
                )
            captions[row] = [text.strip() for text in texts if text.strip()]
            if not captions[row]:
                del captions[row]
                raise BadSampleError("empty caption", field)
        except BadSampleError as error:
            bad.append(Bad(row, records.key(row), error.reason, error.detail))
    return captions, bad


def class_names(classes: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each class for prompts.

    Raises:
        UsageError: names are given, but not of all classes.
    """
    classes = sorted(classes)
    if given and (missing := [name for name in classes if name not in given]):
        raise UsageError(f"classes has no name for {', '.join(missing[:NAMED])}; give one for each label, or none")
    return {name: given.get(name, name.replace("_", " ")) for name in classes}
