"""Features of images from a frozen encoder, and splits of them with labels for probes.

Features of all images are on the host (``scratch``), in a file if they are large; batches of them move to the device
that reads them. Files hold what no memory would, so that no precision depends on the size.

Letters: N images, B of them in a batch, I patches, D width, K labels of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.base.errors import RunFailedError
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import scratch
from aimv2.data.transfer import NO_LABEL
from aimv2.evaluation.held_out import chunks, network_inputs
from aimv2.memory.evaluation import features_at_once, images_at_once, saves_half
from aimv2.model.encoder import Encoder
from aimv2.training.device import Computation, autocast
from aimv2.training.world import ALONE, World

FEATURE_EPS = 1e-6  # ml-aim AttentionPoolingClassifier


@torch.no_grad()
def encode_batch(encoder: Encoder, image: Tensor, computation: Computation, *, is_causal: bool = False) -> Tensor:
    """Return the features of network inputs [B, 3, height, width], on any device: float32 [B, I, D].

    Attention is full, or causal (a prefix of one patch) if ``is_causal``.
    """
    image = image.to(computation.device, non_blocking=True)
    prefix_len_B = torch.ones(len(image), dtype=torch.int64, device=image.device) if is_causal else None
    with autocast(computation):
        feature_BID: Tensor = encoder(image, prefix_len_B).float()
    return feature_BID


def encode(
    encoder: Encoder,
    images: np.ndarray,
    config: RunConfig,
    *,
    is_causal: bool = False,
    is_whole: bool = False,
    world: World = ALONE,
) -> Tensor:
    """Return the features of images uint8 [N, S, S, 3], on the host: float32 [N, I, D], or float16 if ``saves_half``.

    Ranks each encode some of the images, and all get the features of all. Whole images are resized without a crop.
    Raises a RunFailedError if a feature exceeds float16.
    """
    encoder.eval()
    model, is_half = config.model, saves_half(config)
    shape = (len(images), model.num_patches, model.encoder.width)
    feature_NID = torch.from_numpy(scratch(shape, np.float16 if is_half else np.float32))

    def features(rows: np.ndarray) -> Tensor:
        image = network_inputs(images[rows], config, is_whole=is_whole)
        return encode_batch(encoder, image, config, is_causal=is_causal).to(feature_NID.dtype)

    batches = chunks(len(images), images_at_once(config))
    for row_B, feature_BID in zip(batches, world.divided(batches, features), strict=True):
        saved_BID = feature_NID[row_B[0] : row_B[-1] + 1]
        saved_BID.copy_(feature_BID)
        if is_half and not saved_BID.isfinite().all():
            raise RunFailedError("not finite", "features are not finite in float16")
    return feature_NID


@dataclass(eq=False)
class Encoded:
    """The features of the held-out images, computed by all ranks when they are first read, once per attention."""

    encoder: Encoder
    images: np.ndarray
    config: RunConfig
    world: World = ALONE

    @cached_property
    def full(self) -> Tensor:
        return encode(self.encoder, self.images, self.config, world=self.world)

    @cached_property
    def causal(self) -> Tensor:
        return encode(self.encoder, self.images, self.config, is_causal=True, world=self.world)

    def of(self, images: np.ndarray, *, is_causal: bool, is_whole: bool = False) -> Tensor:
        if images is self.images:
            return self.causal if is_causal else self.full
        return encode(self.encoder, images, self.config, is_causal=is_causal, is_whole=is_whole, world=self.world)


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


class Splits(NamedTuple):
    """Settings are chosen on ``validation``, never on ``test``."""

    num_classes: int
    train: Features
    validation: Features
    test: Features


def in_parts(feature_NID: Tensor, device: torch.device, row_N: Tensor | None = None) -> Iterator[Tensor]:
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
    for chunk_BID in in_parts(feature_NID, device, row_N):
        num_patches += chunk_BID.shape[0] * chunk_BID.shape[1]
        chunk_XD = chunk_BID.double().flatten(0, 1)
        total_D += chunk_XD.sum(dim=0)
        squares_D += chunk_XD.square().sum(dim=0)
    mean_D = total_D / num_patches
    variance_D = (squares_D / num_patches - mean_D.square()).clamp(min=0)
    return mean_D.float(), (variance_D + FEATURE_EPS).sqrt().float()


class Standardised:
    """Features of a split with mean 0 and deviation 1, or near, by row: float32 [B, I, D] on the statistics' device.

    They are standardised when they are read, so that no second copy of all of them exists.
    """

    def __init__(self, part: Features, mean_D: Tensor, std_D: Tensor) -> None:
        self._part, self._mean_D, self._std_D = part, mean_D, std_D

    def __len__(self) -> int:
        return len(self._part.label_NK)

    def __getitem__(self, row_B: Tensor) -> Tensor:
        feature_NID, _, row_N = self._part
        row_B = row_B.to(feature_NID.device)
        feature_BID = feature_NID[row_B if row_N is None else row_N[row_B]]  # a copy
        return feature_BID.to(self._mean_D.device).to(self._mean_D.dtype).sub_(self._mean_D).div_(self._std_D)


class Score(NamedTuple):
    num_right_N: np.ndarray  # int64, right guesses of each test image
    num_labels_N: np.ndarray  # int64


def scored(guess_NK: Tensor, label_NK: Tensor) -> Score:
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
