"""Splits of images for probes: their features with labels, standardised features, and the score of guesses.

Probes of a run read features in memory, and those of ``python -m aimv2 evaluate`` features in files.

Letters: N and B images, I patches, D width, K labels of an image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.data.tasks import NO_LABEL

FEATURE_EPS = 1e-6  # ml-aim AttentionPoolingClassifier
CHUNK = 256  # images whose features are read from a file at once


class Features(NamedTuple):
    """Frozen features of a split, and its labels.

    Attributes:
        feature_NID: [N, I, D], float32 in memory, or float16 in a memory-mapped file, which may exceed the memory.
        label_NK: int64 [N, K], with ``NO_LABEL`` where there is none.
        row_N: of features in a file, the rows that belong to the split, in ascending order; None is all.
    """

    feature_NID: Tensor
    label_NK: Tensor
    row_N: Tensor | None = None

    @property
    def is_in_file(self) -> bool:
        """True if the features are to be read in parts."""
        return self.feature_NID.dtype == torch.float16


class Splits(NamedTuple):
    """A classification of images in three splits. Settings are chosen on ``validation``, never on ``test``."""

    num_classes: int
    train: Features
    validation: Features
    test: Features


class Standardised:
    """Features of a split with mean 0 and deviation 1, or near, by row: float32 [B, I, D] on the statistics' device.

    Features in memory are standardised once, those in a file when they are read.
    """

    def __init__(self, part: Features, mean_D: Tensor, std_D: Tensor) -> None:
        self._mean_D, self._std_D = mean_D, std_D
        self._is_in_file, self._row_N = part.is_in_file, part.row_N
        self._num_rows = len(part.label_NK)
        self._feature_NID = part.feature_NID if part.is_in_file else (part.feature_NID - mean_D) / std_D

    def __len__(self) -> int:
        return self._num_rows

    @property
    def width(self) -> int:
        return self._feature_NID.shape[-1]

    def __getitem__(self, row_B: Tensor) -> Tensor:
        if not self._is_in_file:
            return self._feature_NID[row_B]
        row_B = row_B.cpu() if self._row_N is None else self._row_N[row_B.cpu()]
        return (self._feature_NID[row_B].to(self._mean_D.device).float() - self._mean_D) / self._std_D


def moments_in_memory(feature_NID: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``moments`` of features that fit into memory."""
    variance_D = feature_NID.var(dim=(0, 1), correction=0)
    return feature_NID.mean(dim=(0, 1)), (variance_D + FEATURE_EPS).sqrt()


def moments(part: Features, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each dimension over all patches: [D] each."""
    feature_NID = part.feature_NID
    if not part.is_in_file:
        return moments_in_memory(feature_NID)
    total_D = torch.zeros(feature_NID.shape[-1], dtype=torch.float64, device=device)
    squares_D = torch.zeros_like(total_D)
    row_N = torch.arange(len(feature_NID)) if part.row_N is None else part.row_N
    for rows in row_N.split(CHUNK):
        chunk_XD = feature_NID[rows].to(device).double().flatten(0, 1)
        total_D += chunk_XD.sum(dim=0)
        squares_D += chunk_XD.square().sum(dim=0)
    num_patches = len(row_N) * feature_NID.shape[1]
    mean_D = total_D / num_patches
    variance_D = (squares_D / num_patches - mean_D.square()).clamp(min=0)
    return mean_D.float(), (variance_D + FEATURE_EPS).sqrt().float()


class Score(NamedTuple):
    """Right guesses and labels of each test image: int64 [N] each."""

    num_right_N: np.ndarray
    num_labels_N: np.ndarray


def scored(guess_NK: Tensor, label_NK: Tensor) -> Score:
    """Count the right guesses of each image."""
    is_label_NK = label_NK != NO_LABEL
    num_right_N = ((guess_NK == label_NK) & is_label_NK).sum(dim=1)
    return Score(num_right_N.cpu().numpy(), is_label_NK.sum(dim=1).cpu().numpy())


class Chosen(NamedTuple):
    """The score on the test split, the settings that are best on validation, and what makes them doubtful."""

    score: Score
    settings: dict[str, float]
    warning: str


def at_edge(what: str, best: float, grid: Sequence[float]) -> str:
    """Return a warning if the best value of a setting is at the edge of the grid; empty if it is not."""
    is_edge = len(grid) > 1 and best in (min(grid), max(grid))
    return f"the best {what}, {best:g}, is at the edge of the grid" if is_edge else ""
