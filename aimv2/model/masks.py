"""Attention masks. Letters: B images, I patches, T caption tokens, L positions. True = may attend, as in SDPA.

All are bool [B, 1, L, L] unless stated, indexed [image, head, query, key].
"""

import torch
from torch import Tensor


def prefix_mask(prefix_len_B: Tensor, num_patches: int) -> Tensor:
    """Return the mask that shows the first M patches to every query and is causal after them.

    Args:
        prefix_len_B: int64 [B], M in patches, each in 1..I; I is full attention. Not checked here, because a check
            would stall the GPU; ``PrefixDistribution.draw`` ensures it.

    Source: AIMv2 section 2.2; ml-l3m ``mask_builders.py``.
    """
    pos_I = torch.arange(num_patches, device=prefix_len_B.device)
    in_prefix_BI = pos_I[None, :] < prefix_len_B[:, None]
    return (_causal(num_patches, pos_I.device) | in_prefix_BI[:, None, :])[:, None]


def padded_text_mask(text_len_B: Tensor, num_tokens: int, num_patches: int) -> Tensor:
    """Return the causal mask over BOS, T tokens and I patches in which no patch sees the padding of a caption.

    Args:
        text_len_B: int64 [B], caption tokens up to and including end-of-text.
    """
    length = 1 + num_tokens + num_patches
    pos_L = torch.arange(length, device=text_len_B.device)
    is_padding_BL = (pos_L > text_len_B[:, None]) & (pos_L <= num_tokens)  # position 0 is BOS, token t is at 1 + t
    is_patch_L = pos_L > num_tokens
    hidden_BLL = is_patch_L[:, None] & is_padding_BL[:, None, :]
    return (_causal(length, pos_L.device) & ~hidden_BLL)[:, None]


def parallel_text_mask(is_parallel_B: Tensor, num_tokens: int, num_patches: int) -> Tensor:
    """Return the causal mask over I patches, BOS and T tokens, with full attention among the text of some images.

    Args:
        is_parallel_B: bool [B], True for those images.
    """
    pos_L = torch.arange(num_patches + 1 + num_tokens, device=is_parallel_B.device)
    is_text_L = pos_L >= num_patches
    both_text_LL = is_text_L[:, None] & is_text_L[None, :]
    return (_causal(len(pos_L), pos_L.device) | (is_parallel_B[:, None, None] & both_text_LL))[:, None]


def continued_mask(num_seen: int, length: int, device: torch.device) -> Tensor:
    """Return the causal mask of L positions that follow S others, which all of them see: bool [1, 1, L, S+L]."""
    return torch.ones(length, num_seen + length, dtype=torch.bool, device=device).tril(num_seen)[None, None]


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a bool mask as what SDPA adds to the scores: 0 where a query may attend, and minus infinity elsewhere."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _causal(length: int, device: torch.device) -> Tensor:
    pos_L = torch.arange(length, device=device)
    return pos_L[:, None] >= pos_L[None, :]
