"""Labelled images in three splits, and classification tasks on them. Letters: N images, K labels of each."""

from typing import NamedTuple

import numpy as np

NO_LABEL = -1
VALIDATION_SHARE = 0.2  # of the images of a task that are not for the test


class Task(NamedTuple):
    """A classification task, with the labels of each split.

    Attributes:
        train_NK, validation_NK, test_NK: int64, the class of each of K things in an image, such as its cells;
            ``NO_LABEL`` where there is none.
    """

    name: str
    num_classes: int
    train_NK: np.ndarray
    validation_NK: np.ndarray
    test_NK: np.ndarray


class TransferSet(NamedTuple):
    """Images in three splits, and their tasks. Hyper-parameters are chosen on ``validation``, never on ``test``.

    Attributes:
        train, validation, test: uint8 [N, S, S, 3].
        item_N: int64, the number of each test image as an evaluation item (``Pairs.items``).
        is_whole: True if what matters reaches to the border, so that images are resized without a crop.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    item_N: np.ndarray
    tasks: tuple[Task, ...]
    is_whole: bool = False
