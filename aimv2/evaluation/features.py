"""Features of images from a frozen encoder. Letters: N images, B of them in a batch, I patches, D width."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.evaluation.held_out import chunks, network_inputs
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
    """Return the features of images uint8 [N, S, S, 3]: float32 [N, I, D].

    Args:
        is_causal: causal attention (a prefix of one patch) instead of full attention.
        is_whole: resize without a crop, whatever the data.
        world: ranks that each encode some of the images; all get the features of all.
    """
    encoder.eval()

    def features(rows: np.ndarray) -> Tensor:
        image = network_inputs(images[rows], config, is_whole=is_whole)
        return encode_batch(encoder, image, config, is_causal=is_causal)

    return torch.cat(world.divided(chunks(len(images)), features))


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
        """Return the features of any images: float32 [N, I, D]; without a crop if ``is_whole``."""
        if images is self.images:
            return self.causal if is_causal else self.full
        return encode(self.encoder, images, self.config, is_causal=is_causal, is_whole=is_whole, world=self.world)
