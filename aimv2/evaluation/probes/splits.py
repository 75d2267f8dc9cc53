"""Splits of images for probes: their features with labels, standardised features, and the score of guesses.

Probes read batches of features, which a run has on the host (``aimv2.evaluation.features``), and
``python -m aimv2 evaluate`` in files.

Letters: N and B images, I patches, D width, K labels of an image.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.data.transfer import NO_LABEL
from aimv2.memory.evaluation import features_at_once

FEATURE_EPS = 1e-6  # ml-aim AttentionPoolingClassifier


class Features(NamedTuple):
    """Frozen features of a split, and its labels.

    Attributes:
        feature_NID: [N, I, D], in any place and precision; in a memory-mapped file they may exceed the memory.
        label_NK: int64 [N, K], with ``NO_LABEL`` where there is none.
        row_N: the rows that belong to the split, in ascending order; None is all.
    """

    feature_NID: Tensor
    label_NK: Tensor
    row_N: Tensor | None = None

    def read(self, row_B: Tensor) -> Tensor:
        """Return a copy of the features of some images, in their place and precision: [B, I, D]."""
        row_B = row_B.to(self.feature_NID.device)
        return self.feature_NID[row_B if self.row_N is None else self.row_N[row_B]]


class Splits(NamedTuple):
    """A classification of images in three splits. Settings are chosen on ``validation``, never on ``test``."""

    num_classes: int
    train: Features
    validation: Features
    test: Features


class Standardised:
    """Features of a split with mean 0 and deviation 1, or near, by row: float32 [B, I, D] on the statistics' device.

    They are standardised when they are read, so that no second copy of all of them exists.
    """

    def __init__(self, part: Features, mean_D: Tensor, std_D: Tensor) -> None:
        self._part, self._mean_D, self._std_D = part, mean_D, std_D

    def __len__(self) -> int:
        return len(self._part.label_NK)

    @property
    def shape(self) -> torch.Size:
        """Number of patches and width."""
        return self._part.feature_NID.shape[1:]

    def __getitem__(self, row_B: Tensor) -> Tensor:
        feature_BID = self._part.read(row_B).to(self._mean_D.device).to(self._mean_D.dtype)
        return feature_BID.sub_(self._mean_D).div_(self._std_D)


def chunks(feature_NID: Tensor, device: torch.device, row_N: Tensor | None = None) -> Iterator[Tensor]:
    """Yield features on a device, those of some images at a time, of all or of these rows."""
    row_N = torch.arange(len(feature_NID)) if row_N is None else row_N
    for row_B in row_N.split(features_at_once(feature_NID[0].numel())):
        yield feature_NID[row_B].to(device)


def moments(feature_NID: Tensor, device: torch.device, row_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each dimension over all patches of all images, or of these rows: [D] each."""
    if device.type == "cpu" and feature_NID.dtype != torch.float16 and row_N is None:
        # All at once, as in the runs that there are; in parts the last digit would be another one.
        variance_D = feature_NID.var(dim=(0, 1), correction=0)
        return feature_NID.mean(dim=(0, 1)), (variance_D + FEATURE_EPS).sqrt()
    total_D = torch.zeros(feature_NID.shape[-1], dtype=torch.float64, device=device)
    squares_D = torch.zeros_like(total_D)
    num_patches = 0
    for chunk_BID in chunks(feature_NID, device, row_N):
        num_patches += chunk_BID.shape[0] * chunk_BID.shape[1]
        chunk_XD = chunk_BID.double().flatten(0, 1)
        total_D += chunk_XD.sum(dim=0)
        squares_D += chunk_XD.square().sum(dim=0)
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
