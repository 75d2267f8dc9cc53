"""Losses as functions of tensors.

Letters: B images, I patches in reading order, P values in a patch, N supervised tokens of the batch, V vocabulary, S
width of a shared space, C texts.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed
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
    values: Literal["mean", "sum"] = "mean",
    patches: Literal["batch", "image", "image_mean"] = "batch",
    count: float | None = None,
) -> Tensor:
    """Return the squared error of the next patch, over the patches after the prefixes.

    Args:
        predicted_BIP: output of the pixel head at every image position; position i (from 0) predicts patch i+1.
        target_BIP: values of the patches.
        prefix_len_B: int64 [B], M; patches M..I-1 (from 0) are scored. At least one image must have M < I.
        values, patches: the reductions within a patch and over patches (``ObjectiveConfig``). With ``batch`` an image
            with a short prefix has more targets and so more weight.
        count: the divisor if these images are a rank's share of a batch (``Batch.each``), instead of the number of
            scored patches, or of images that have one with ``image_mean``. Not used with ``image``.

    Returns:
        scalar, float32 or wider.

    Source: paper sections 2.1 and 2.2, ml-l3m ``RasterPixelLoss``; the defaults follow the code.
    """
    next_BIP = target_BIP[:, 1:]
    error_BIP = (predicted_BIP[:, :-1].to(next_BIP.dtype) - next_BIP).square()
    error_BI = error_BIP.mean(dim=-1) if values == "mean" else error_BIP.sum(dim=-1)
    pos_I = torch.arange(1, target_BIP.shape[1], device=target_BIP.device)
    scored_BI = (pos_I >= prefix_len_B[:, None]).to(error_BI.dtype)
    if patches == "image_mean":
        num_scored_B = scored_BI.sum(dim=1)
        by_image_B = (error_BI * scored_BI).sum(dim=1) / num_scored_B.clamp(min=1)
        # An image without a scored patch has no mean.
        return by_image_B.sum() / ((num_scored_B > 0).sum() if count is None else count)
    if patches == "image":
        return (error_BI * scored_BI).sum() / (target_BIP.shape[0] * target_BIP.shape[1])
    return (error_BI * scored_BI).sum() / (scored_BI.sum() if count is None else count)


def text_loss(logits_NV: Tensor, target_N: Tensor, count: float | None = None) -> Tensor:
    """Return the mean cross-entropy of the supervised tokens in nats, float32 or wider (ml-l3m).

    Args:
        count: the divisor instead of N if these tokens are a rank's share of a batch (``Batch.each``).
    """
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    if count is None:
        return F.cross_entropy(logits_NV, target_N)
    return F.cross_entropy(logits_NV, target_N, reduction="sum") / count


def softmax_contrast(logits_BB: Tensor) -> Tensor:
    """Return the mean cross-entropy of matching each image to its text and each text to its image (CLIP).

    Args:
        logits_BB: [image, text], pairs on the diagonal.

    Source: arXiv 2103.00020, Figure 3.
    """
    pair_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, pair_B) + F.cross_entropy(logits_BB.T, pair_B)) / 2


def sigmoid_contrast(logits_BC: Tensor, first: int = 0) -> Tensor:
    """Return the binary cross-entropy of all image-text pairs, summed over texts, mean over images (SigLIP).

    Args:
        logits_BC: [image, text]; image b's own text is ``first`` + b.

    Source: arXiv 2303.15343, Algorithm 1.
    """
    B, C = logits_BC.shape
    is_pair_BC = torch.arange(C, device=logits_BC.device) == torch.arange(B, device=logits_BC.device)[:, None] + first
    return -F.logsigmoid(torch.where(is_pair_BC, logits_BC, -logits_BC)).sum() / B


def gathered(local_BS: Tensor) -> tuple[Tensor, int]:
    """Return the vectors of all processes, with gradients to each, and the index of this process's first.

    Outside torch.distributed these are the process's own.
    """
    if not torch.distributed.is_initialized():
        return local_BS, 0
    gather: Callable[[Tensor], Tensor] = _Gathered.apply  # which torch does not annotate
    return gather(local_BS), torch.distributed.get_rank() * len(local_BS)


class _Gathered(torch.autograd.Function):
    # torch.distributed.nn.functional.all_gather is deprecated in favour of a private function, and by default uses the
    # process's first group, which a second run no longer has (torch 2.13).
    @staticmethod
    def forward(ctx: Any, local_BS: Tensor) -> Tensor:
        parts = [torch.empty_like(local_BS) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, local_BS.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient_CS: Tensor) -> Tensor:
        """Sum over processes, because each one's loss depends on these vectors."""
        total_CS = gradient_CS.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total_CS)
        return total_CS.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]
