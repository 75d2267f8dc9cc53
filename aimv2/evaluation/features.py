"""Features of images from a frozen encoder. Letters: N images, B of them in a batch, I patches, D width.

Features of all images are on the host (``scratch``), in a file if they are large, and batches of them move to the
device that reads them. Files hold what no memory would, so that no precision depends on the size.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aimv2.base.errors import RunFailedError
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import scratch
from aimv2.evaluation.held_out import chunks, network_inputs
from aimv2.memory.evaluation import images_at_once, saves_half
from aimv2.model.encoder import Encoder
from aimv2.training.device import Computation, autocast
from aimv2.training.world import ALONE, World


@torch.no_grad()
def encode_batch(encoder: Encoder, image: Tensor, computation: Computation, *, is_causal: bool = False) -> Tensor:
    """Return the features of network inputs [B, 3, height, width], on any device: float32 [B, I, D].

    Args:
        is_causal: causal attention (a prefix of one patch) instead of full attention.
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

    Args:
        is_causal: causal attention (a prefix of one patch) instead of full attention.
        is_whole: resize without a crop, whatever the data.
        world: ranks that each encode some of the images; all get the features of all.

    Raises:
        RunFailedError: a feature exceeds float16.
        OSError: the disk has no room for the features.
    """
    encoder.eval()
    model, is_half = config.model, saves_half(config)
    feature_NID = torch.from_numpy(
        scratch((len(images), model.num_patches, model.encoder.width), np.float16 if is_half else np.float32)
    )

    def features(rows: np.ndarray) -> Tensor:
        image = network_inputs(images[rows], config, is_whole=is_whole)
        return encode_batch(encoder, image, config, is_causal=is_causal).to(feature_NID.dtype)

    batches = chunks(len(images), images_at_once(config))
    for row_B, feature_BID in zip(batches, world.divided(batches, features), strict=True):
        own_BID = feature_NID[row_B[0] : row_B[-1] + 1]
        own_BID.copy_(feature_BID)
        if is_half and not own_BID.isfinite().all():
            raise RunFailedError("not finite", "features are not finite in float16")
    return feature_NID


def on_device(feature_BID: Tensor, computation: Computation) -> Tensor:
    """Return features of a batch as the device reads them: float32."""
    return feature_BID.to(computation.device).float()


@dataclass(eq=False)
class Encoded:
    """The features of the held-out images, computed when they are first read and once per attention.

    Attributes:
        world: ranks that compute features together, and all get them.
    """

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
        """Return the features of any images, as ``encode``; without a crop if ``is_whole``."""
        if images is self.images:
            return self.causal if is_causal else self.full
        return encode(self.encoder, images, self.config, is_causal=is_causal, is_whole=is_whole, world=self.world)
