"""Blocks shared by encoder and decoder. Letters: B batch, L positions, D width, H heads, F FFN hidden."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimv2.config import TransformerConfig

NORM_EPS = 1e-5  # ml-aim and ml-l3m, all AIMv2 models


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases; query, key and value are one product."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BLD: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        """Attend.

        Args:
            x_BLD: [B, L, D].
            mask: bool [B or 1, 1, L, L], indexed [image, head, query, key], True where a query may attend; None lets
                every position see every other, or the earlier ones if ``is_causal``.
        """
        B, L, D = x_BLD.shape
        q_BHLd, k_BHLd, v_BHLd = (
            self.qkv(x_BLD).view(B, L, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed_BHLd = F.scaled_dot_product_attention(q_BHLd, k_BHLd, v_BHLd, attn_mask=mask, is_causal=is_causal)
        return self.out(mixed_BHLd.transpose(1, 2).reshape(B, L, D))


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) without biases; gate and up are one product."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        gate_BLF, up_BLF = self.gate_up(x_BLD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BLF) * up_BLF)


class Block(nn.Module):
    """Pre-norm residual block: RMSNorm and attention, RMSNorm and SwiGLU."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.attn = SelfAttention(config.width, config.num_heads)
        self.norm2 = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.ffn = SwiGLU(config.width, config.ffn_hidden)

    def forward(self, x_BLD: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        x_BLD = x_BLD + self.attn(self.norm1(x_BLD), mask, is_causal=is_causal)
        return x_BLD + self.ffn(self.norm2(x_BLD))


def init_block_(block: Block, generator: torch.Generator) -> None:
    """Xavier-uniform for each projection by itself, the fused ones in their parts (ml-l3m keeps them apart)."""
    width, hidden = block.norm1.weight.shape[0], block.ffn.down.in_features
    parts = [
        *block.attn.qkv.weight.split(width),
        block.attn.out.weight,
        *block.ffn.gate_up.weight.split(hidden),
        block.ffn.down.weight,
    ]
    for weight in parts:
        nn.init.xavier_uniform_(weight, generator=generator)
