"""The losses, and how an objective combines them.

Letters: B images, I patches, P values in a patch, T caption tokens, N supervised tokens of the batch, E width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.config import ObjectiveConfig
from aimv2.model.aimv2 import AIMv2

PIXEL_EPS = 1e-6  # added to the patch variance (MAE; ml-l3m ``mae_loss.py``)


def patchify(image: Tensor, patch_px: int) -> Tensor:
    """Cut [B, 3, S, S] into patches in raster order: [B, I, P], values of a patch in (row, column, channel) order."""
    B, C, S, _ = image.shape
    grid = S // patch_px
    cells = image.view(B, C, grid, patch_px, grid, patch_px)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(B, grid * grid, patch_px * patch_px * C)


def standardise(patch_BIP: Tensor) -> Tensor:
    """Each patch minus its mean, over the square root of its unbiased variance plus 1e-6."""
    mean = patch_BIP.mean(dim=-1, keepdim=True)
    variance = patch_BIP.var(dim=-1, keepdim=True)
    return (patch_BIP - mean) / (variance + PIXEL_EPS).sqrt()


def pixel_loss(
    predicted_BIP: Tensor,
    image: Tensor,
    prefix_len_B: Tensor,
    patch_px: int,
    *,
    values: Literal["mean", "sum"] = "mean",
    patches: Literal["batch", "image"] = "batch",
) -> Tensor:
    """Squared error of the next patch, for the patches outside the prefixes.

    Args:
        predicted_BIP: pixel head at every image position; position i (from 0) is scored against patch i+1.
        image: the network input [B, 3, S, S]; its standardised patches are the targets.
        prefix_len_B: int64 [B], M; patches M..I-1 (from 0) are scored.
        values, patches: how errors are combined within a patch and over patches (``ObjectiveConfig``). With ``batch``
            an image with a short prefix has more targets and so weighs more.

    Returns:
        scalar, float32 or wider.

    Source: paper sections 2.1 and 2.2, ml-l3m ``RasterPixelLoss``; the defaults are the code's.
    """
    target_BIP = standardise(patchify(image, patch_px))[:, 1:]
    error_BIP = (predicted_BIP[:, :-1].to(target_BIP.dtype) - target_BIP).square()
    error_BI = error_BIP.mean(dim=-1) if values == "mean" else error_BIP.sum(dim=-1)
    pos_I = torch.arange(1, target_BIP.shape[1] + 1, device=image.device)
    scored_BI = (pos_I >= prefix_len_B[:, None]).to(error_BI.dtype)
    count = scored_BI.sum() if patches == "batch" else predicted_BIP.shape[0] * predicted_BIP.shape[1]
    return (error_BI * scored_BI).sum() / count


def text_loss(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """Cross-entropy in nats, mean over the batch's supervised tokens, float32 or wider (ml-l3m)."""
    return F.cross_entropy(logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)), target_N)


def aimv2_losses(
    model: AIMv2,
    image: Tensor,
    token_BT: Tensor,
    prefix_len_B: Tensor,
    supervised_N: Tensor,
    *,
    config: ObjectiveConfig,
    patch_px: int,
) -> tuple[Tensor, Tensor]:
    """Pixel and text loss of a batch.

    Args:
        supervised_N: int64 [N], the supervised tokens' places in the flattened [B x T] batch. The caller knows them on
            the CPU, so nothing here waits for the device, and only they meet the vocabulary.

    Returns:
        pixel loss (standardised pixels squared) and text loss (nats per token), scalars.
    """
    image_BIE, text_BTE = model(image, token_BT, prefix_len_B)
    pixel = pixel_loss(
        model.decoder.pixel_head(image_BIE),
        image,
        prefix_len_B,
        patch_px,
        values=config.pixel_values,
        patches=config.pixel_patches,
    )
    # Text position t predicts token t; the last position predicts nothing.
    hidden_NE = text_BTE[:, :-1].flatten(0, 1).index_select(0, supervised_N)
    text = text_loss(model.decoder.text_head(hidden_NE), token_BT.flatten().index_select(0, supervised_N))
    return pixel, text
