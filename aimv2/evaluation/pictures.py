"""Predicted patches as pictures.

Letters: B images, I patches in reading order, P values in a patch.
"""

import numpy as np
import torch
from torch import Tensor

from aimv2.config.model_config import ModelConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.transforms import IMAGENET_MEAN, IMAGENET_STD, unnormalise
from aimv2.model.positions import in_reading_order, reading_order
from aimv2.objectives.losses import PIXEL_EPS, patchify

UNSEEN = 170  # grey level of patches after the prefix


def completed(image: Tensor, rest_BIP: Tensor, prefix_len: int, config: ModelConfig) -> list[np.ndarray]:
    """Put other patches in place of those after a prefix, and return pictures, uint8 [P, P, 3] each.

    Args:
        image: network input [B, 3, P, P].
        rest_BIP: values of the patches after the prefix, in reading order; broadcast.
    """
    true_BIP = in_reading_order(patchify(image, config.patch_px), config.patch_order, config.grid)
    rest_BIP = rest_BIP.expand(len(image), config.num_patches - prefix_len, config.patch_dim)
    patch_BIP = torch.cat([true_BIP[:, :prefix_len], rest_BIP], dim=1)
    places = reading_order(config.patch_order, config.grid)
    if places is not None:
        patch_BIP = patch_BIP[:, torch.tensor(places).argsort()]
    return [unnormalise(one) for one in unpatchify(patch_BIP, config.patch_px)]


def unseen(config: ModelConfig) -> Tensor:
    """Return a grey patch as the network would read it: float32 [P]."""
    grey_3 = (UNSEEN / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    return grey_3.repeat(config.patch_px**2)


def with_contrast(predicted_BIP: Tensor, image: Tensor, prefix_len: int, config: RunConfig) -> Tensor:
    """Return predictions of the patches after a prefix as pixels.

    A standardised prediction lacks the patch's brightness and contrast, so it gets those of the true patch, as in MAE.
    """
    if config.objective.pixel_targets == "raw":
        return predicted_BIP
    model = config.model
    true_BIP = in_reading_order(patchify(image, model.patch_px), model.patch_order, model.grid)[:, prefix_len:]
    deviation_BI1 = (true_BIP.var(dim=-1, keepdim=True) + PIXEL_EPS).sqrt()
    return predicted_BIP * deviation_BI1 + true_BIP.mean(dim=-1, keepdim=True)


def unpatchify(patch_BIP: Tensor, patch_px: int) -> Tensor:
    """Put patches in raster order [B, I, P] back together to images [B, 3, S, S]."""
    grid = round(patch_BIP.shape[1] ** 0.5)
    cells = patch_BIP.view(len(patch_BIP), grid, grid, patch_px, patch_px, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patch_BIP), 3, grid * patch_px, grid * patch_px)
