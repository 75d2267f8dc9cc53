"""Losses as functions of tensors.

Letters: B images, I patches in reading order, P values in a patch, N supervised tokens of the batch, V vocabulary, S
width of a shared space, C texts.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PIXEL_EPS = 1e-6  # added to the patch variance (MAE; ml-l3m ``mae_loss.py``)


def patchify(image: Tensor, patch_px: int) -> Tensor:
    """Cut [B, 3, S, S] into patches in raster order: [B, I, P], values of a patch in (row, column, channel) order."""
    B, C, S, _ = image.shape
    grid = S // patch_px
    cells = image.view(B, C, grid, patch_px, grid, patch_px)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(B, grid * grid, patch_px * patch_px * C)


def standardise(patch_BIP: Tensor) -> Tensor:
    """Subtract each patch's mean and divide by the square root of its unbiased variance plus 1e-6."""
    mean = patch_BIP.mean(dim=-1, keepdim=True)
    variance = patch_BIP.var(dim=-1, keepdim=True)
    return (patch_BIP - mean) / (variance + PIXEL_EPS).sqrt()


def pixel_loss(
    predicted_BIP: Tensor,
    target_BIP: Tensor,
    prefix_len_B: Tensor,
    *,
    count: float,
    values: Literal["mean", "sum"] = "mean",
    is_mean_by_image: bool = False,
) -> Tensor:
    """Return the squared error of the next patch, over the patches after the prefixes.

    Args:
        predicted_BIP: output of the pixel head at every image position; position i (from 0) predicts patch i+1.
        target_BIP: values of the patches.
        prefix_len_B: int64 [B], M; patches M..I-1 (from 0) are scored.
        count: the divisor of the sum over patches, or over images.
        values: the reduction within a patch (``ObjectiveConfig``).
        is_mean_by_image: sum the means of images that have a scored patch. Otherwise the patches are summed, and an
            image with a short prefix has more weight.

    Returns:
        scalar, float32 or wider.

    Source: paper sections 2.1 and 2.2, ml-l3m ``RasterPixelLoss``; the defaults follow the code.
    """
    next_BIP = target_BIP[:, 1:]
    error_BIP = (predicted_BIP[:, :-1].to(next_BIP.dtype) - next_BIP).square()
    error_BI = error_BIP.mean(dim=-1) if values == "mean" else error_BIP.sum(dim=-1)
    pos_I = torch.arange(1, target_BIP.shape[1], device=target_BIP.device)
    scored_BI = (pos_I >= prefix_len_B[:, None]).to(error_BI.dtype)
    if is_mean_by_image:
        return ((error_BI * scored_BI).sum(dim=1) / scored_BI.sum(dim=1).clamp(min=1)).sum() / count
    return (error_BI * scored_BI).sum() / count


def text_loss(logits_NV: Tensor, target_N: Tensor, count: float) -> Tensor:
    """Return the sum of the cross-entropies of tokens in nats, divided by a count, float32 or wider (ml-l3m)."""
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return F.cross_entropy(logits_NV, target_N, reduction="sum") / count


def softmax_contrast(logits_BB: Tensor) -> Tensor:
    """Return the mean cross-entropy of matching each image to its text and each text to its image (CLIP).

    Args:
        logits_BB: [image, text], pairs on the diagonal.

    Source: arXiv 2103.00020, Figure 3.
    """
    pair_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, pair_B) + F.cross_entropy(logits_BB.T, pair_B)) / 2


def sigmoid_contrast(logits_BB: Tensor) -> Tensor:
    """Return the binary cross-entropy of all image-text pairs, summed over texts, mean over images (SigLIP).

    Args:
        logits_BB: [image, text], pairs on the diagonal.

    Source: arXiv 2303.15343, Algorithm 1.
    """
    is_pair_BB = torch.eye(len(logits_BB), dtype=torch.bool, device=logits_BB.device)
    return -F.logsigmoid(torch.where(is_pair_BB, logits_BB, -logits_BB)).sum() / len(logits_BB)


def magnified(vector_BS: Tensor, factor: float) -> Tensor:
    """Return the vectors, whose gradients are multiplied by the factor."""
    return vector_BS.detach() + factor * (vector_BS - vector_BS.detach())


def spliced(whole_CS: Tensor, own_BS: Tensor, first: int) -> Tensor:
    """Return the vectors of a whole batch [C, S] with a part of them replaced, from index ``first`` on."""
    return torch.cat([whole_CS[:first], own_BS, whole_CS[first + len(own_BS) :]])
