"""Attention masks. Letters: B images, I patches. True = may attend, as SDPA reads it."""

import torch
from torch import Tensor


def prefix_mask(prefix_len_B: Tensor, num_patches: int) -> Tensor:
    """Show the first M patches to every query; keep the rest causal.

    Args:
        prefix_len_B: int64 [B], M in patches, each in 1..I-1. Not checked here, for a check would stall the GPU;
            ``PrefixLaw.draw`` keeps the range.
        num_patches: I.

    Returns:
        bool [B, 1, I, I], indexed [image, head, query, key].

    Source: AIMv2 section 2.2; ml-l3m ``mask_builders.py``.
    """
    pos_I = torch.arange(num_patches, device=prefix_len_B.device)
    causal_II = pos_I[:, None] >= pos_I[None, :]
    in_prefix_BI = pos_I[None, :] < prefix_len_B[:, None]
    return (causal_II | in_prefix_BI[:, None, :])[:, None]
