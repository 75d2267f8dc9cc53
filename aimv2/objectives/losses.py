"""Losses as functions of tensors.

Letters: B images, I patches in reading order, P values in a patch, K scored patches and N supervised tokens of the
batch, E width of the decoder, V vocabulary, S width of a shared space, C texts.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aimv2.cost import MAX_LOGITS

PIXEL_EPS = 1e-6  # added to the patch variance (MAE; ml-l3m ``mae_loss.py``)


def patchify(image: Tensor, patch_px: int) -> Tensor:
    """Cut images, [B, 3, height, width], into patches in raster order: [B, I, P], values of a patch in (row, column,
    channel) order."""
    B, C, *sides = image.shape
    rows, columns = (side // patch_px for side in sides)
    cells = image.view(B, C, rows, patch_px, columns, patch_px)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(B, rows * columns, patch_px * patch_px * C)


def standardise(patch_KP: Tensor) -> Tensor:
    """Subtract each patch's mean and divide by the square root of its unbiased variance plus 1e-6: [..., P]."""
    centred_KP = patch_KP - patch_KP.mean(dim=-1, keepdim=True)
    # Not torch.var, which warns of a micro-batch without scored patches.
    variance_K1 = centred_KP.square().sum(dim=-1, keepdim=True) / (patch_KP.shape[-1] - 1)
    return centred_KP / (variance_K1 + PIXEL_EPS).sqrt()


def pixel_loss(
    predicted_KP: Tensor,
    target_KP: Tensor,
    *,
    count: float,
    values: Literal["mean", "sum"] = "mean",
    weight_K: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of the squared errors of patches, divided by a count: a scalar, float32 or wider.

    With weights of 1, the default, an image with a short prefix has more weight.

    Source: paper sections 2.1 and 2.2, ml-l3m ``RasterPixelLoss``; the defaults follow the code.
    """
    error_KP = (predicted_KP.to(target_KP.dtype) - target_KP).square()
    error_K = error_KP.mean(dim=-1) if values == "mean" else error_KP.sum(dim=-1)
    return (error_K if weight_K is None else error_K * weight_K).sum() / count


def text_loss(
    hidden_NE: Tensor,
    weight_VE: Tensor,
    target_N: Tensor,
    count: float,
    *,
    weight_N: Tensor | None = None,
    max_logits: int = MAX_LOGITS,
) -> Tensor:
    """Return the weighted sum of the cross-entropies of tokens in nats, divided by a count: float32 or wider (ml-l3m).

    If there are more than ``max_logits`` logits, those of some tokens at a time are computed in the forward pass and
    again in the backward pass, so that they never exist together. This takes a third more products.

    ``torch.nn.functional.linear_cross_entropy`` (torch 2.13) is not used: under autocast its loss would be bfloat16 or
    its products float32, and on the CPU it computes float32 products even with bfloat16 operands.
    """
    rows = max(1, max_logits // len(weight_VE))
    if len(hidden_NE) <= rows:
        return _nats(hidden_NE, weight_VE, target_N, weight_N) / count
    total = hidden_NE.new_zeros((), dtype=_wide(hidden_NE.dtype))
    for start in range(0, len(hidden_NE), rows):
        now = slice(start, start + rows)
        part = hidden_NE[now], weight_VE, target_N[now], None if weight_N is None else weight_N[now]
        total = total + checkpoint(_nats, *part, use_reentrant=False, preserve_rng_state=False)
    return total / count


def _nats(hidden_NE: Tensor, weight_VE: Tensor, target_N: Tensor, weight_N: Tensor | None) -> Tensor:
    logits_NV = F.linear(hidden_NE, weight_VE)
    wide_NV = logits_NV.to(_wide(logits_NV.dtype))
    if weight_N is None:
        return F.cross_entropy(wide_NV, target_N, reduction="sum")
    return F.cross_entropy(wide_NV, target_N, reduction="none") @ weight_N.to(wide_NV.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


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
