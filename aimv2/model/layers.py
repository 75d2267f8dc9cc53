"""Transformer blocks, shared by all networks.

Letters: B batch, L positions, S positions in the cache, D width, H heads, d head width, F FFN width.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aimv2.config.model_config import TransformerConfig
from aimv2.model.fused import RMSNorm, product_dtype, silu_product
from aimv2.model.initial import Distribution, xavier_uniform
from aimv2.model.masks import additive

KeyValues = list[Tensor]  # cached keys and values of one layer, [B, H, S, d] each; empty before the first call
MAX_COMPILATIONS = 32  # of a block; 8 is torch's default, and four stacks in three sizes each are 12
NORM_EPS = 1e-5  # ml-aim and ml-l3m, all AIMv2 models; ml-l3m's AIM v1 too (LayerNorm)


def build_norm(config: TransformerConfig, *, feeds_product: bool = False) -> RMSNorm | nn.LayerNorm:
    """Return a norm of the stack's kind and width, of which the result may only be an operand of matrix products."""
    if config.norm == "layer":
        return nn.LayerNorm(config.width, eps=NORM_EPS)
    return RMSNorm(config.width, NORM_EPS, feeds_product=feeds_product)


def embedding(num_rows: int, width: int) -> nn.Embedding:
    """Return an embedding with uninitialised weights."""
    # On the meta device torch's own initialisation would load its compiler, which takes longer than the rest of a plan.
    return nn.Embedding(num_rows, width, _weight=torch.empty(num_rows, width))


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases, with query, key and value in one product."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x_BLD: Tensor, mask: Tensor | None = None, *, is_causal: bool = False, cache: KeyValues | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x_BLD: [B, L, D].
            mask: [B or 1, 1, L, L], or [B or 1, 1, L, S+L] with a cache, indexed [image, head, query, key]: bool, True
                where a query may attend, or added to the scores. None is full attention, or causal attention if
                ``is_causal``.
        """
        B, L, D = x_BLD.shape
        # In the backward pass, chunks of the last dimension are joined in one copy; other cuts of it take two.
        q_BHLd, k_BHLd, v_BHLd = (self._by_head(part_BLD) for part_BLD in self.qkv(x_BLD).chunk(3, dim=-1))
        if cache is not None:
            assert not cache or L == 1 or mask is not None, "several positions after the first call need a mask"
            is_causal = is_causal and L > 1  # a single new position attends to all earlier ones
            if cache:
                k_BHLd, v_BHLd = torch.cat([cache[0], k_BHLd], dim=2), torch.cat([cache[1], v_BHLd], dim=2)
            cache[:] = k_BHLd, v_BHLd
        mixed_BHLd = F.scaled_dot_product_attention(q_BHLd, k_BHLd, v_BHLd, attn_mask=mask, is_causal=is_causal)
        out_BLD: Tensor = self.out(mixed_BHLd.transpose(1, 2).reshape(B, L, D))
        return out_BLD

    def remember(self, x_BLD: Tensor, cache: KeyValues) -> None:
        """Put keys and values of the first positions into an empty cache, and compute nothing else."""
        D = x_BLD.shape[2]
        cache[:] = (self._by_head(part_BLD) for part_BLD in F.linear(x_BLD, self.qkv.weight[D:]).chunk(2, dim=-1))

    def _by_head(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        return x_BLD.view(B, L, self.num_heads, D // self.num_heads).transpose(1, 2)


class SwiGLU(nn.Module):
    """The FFN down(silu(gate x) * up x) without biases; gate and up are one matrix."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x_BLD.device.type != "cpu":
            hidden_BLF = silu_product(self.gate_up(x_BLD))
        else:
            # Without gradients, two products and one in-place product allocate less memory. On the CPU this saves about
            # 1 % of a ViT-L's forward pass in float32 (``python -m benchmarks encoder``).
            gate_BLF, up_BLF = (F.linear(x_BLD, weight) for weight in self.gate_up.weight.chunk(2))
            hidden_BLF = F.silu(gate_BLF).mul_(up_BLF)
        down_BLD: Tensor = self.down(hidden_BLF)
        return down_BLD


class MLP(nn.Module):
    """The FFN down(gelu(up x)) without biases (AIM v1)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        down_BLD: Tensor = self.down(F.gelu(self.up(x_BLD)))
        return down_BLD


class Block(nn.Module):
    """Pre-norm residual block: norm and attention, norm and FFN.

    Attributes:
        is_compiled: True compiles the block for forward passes with gradients. Hooks stay outside of what is compiled,
            so that FSDP2 can gather the weights.
        saves_input: True saves only the input for the backward pass, which computes the rest again.
        is_dynamic: True compiles it with sizes as variables from the first call on.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = build_norm(config, feeds_product=True)
        self.attn = SelfAttention(config.width, config.num_heads)
        self.norm2 = build_norm(config, feeds_product=True)
        self.ffn = (SwiGLU if config.ffn == "swiglu" else MLP)(config.width, config.ffn_hidden)
        self.is_compiled = self.saves_input = self.is_dynamic = False

    def forward(
        self,
        x_BLD: Tensor,
        mask: Tensor | None = None,
        *,
        is_causal: bool = False,
        cache: KeyValues | None = None,
        only_cache: bool = False,
    ) -> Tensor:
        """Apply the block, or with ``only_cache`` fill the empty cache and return the input."""
        if only_cache:
            assert cache is not None
            self.attn.remember(self.norm1(x_BLD), cache)
            return x_BLD
        if cache is not None or not torch.is_grad_enabled():
            return self.compute(x_BLD, mask, is_causal, cache)
        is_frozen = not (x_BLD.requires_grad or self.attn.qkv.weight.requires_grad)  # then nothing is saved
        compute = Block.recomputed if self.saves_input and not is_frozen else Block.compute
        if self.is_compiled:
            compute = _compiled(compute, self.is_dynamic)
        return compute(self, x_BLD, mask, is_causal)

    def compute(self, x_BLD: Tensor, mask: Tensor | None, is_causal: bool, cache: KeyValues | None = None) -> Tensor:
        x_BLD = x_BLD + self.attn(self.norm1(x_BLD), mask, is_causal=is_causal, cache=cache)
        out_BLD: Tensor = x_BLD + self.ffn(self.norm2(x_BLD))
        return out_BLD

    def recomputed(self, x_BLD: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        """Apply the block, of which the backward pass computes all again.

        It is compiled as a whole, so that forward and backward pass are of one graph, and FSDP2's hooks are outside.
        """
        # No part of a block is random, so the state of the generators need not be kept.
        out_BLD: Tensor = checkpoint(
            self.compute, x_BLD, mask, is_causal, use_reentrant=False, preserve_rng_state=False
        )
        return out_BLD

    def initial(self) -> dict[str, Distribution]:
        """Declare each projection Xavier-uniform, fused ones in their parts, which ml-l3m has as separate layers."""
        return {
            "attn.qkv.weight": xavier_uniform(num_fused=3),
            "attn.out.weight": xavier_uniform(),
            "ffn.gate_up.weight": xavier_uniform(num_fused=2),
            "ffn.up.weight": xavier_uniform(),
            "ffn.down.weight": xavier_uniform(),
        }


@lru_cache
def _compiled(compute: Callable[..., Tensor], is_dynamic: bool) -> Callable[..., Tensor]:
    """Return a compiled method of ``Block``, which blocks of the same sizes share.

    Unless it ``is_dynamic``, sizes that change from call to call become variables at the second compilation. Stacks,
    masks, and micro-batches of one image are compiled apart, all under one limit of torch, at which a run would end.
    """
    torch._dynamo.config.recompile_limit = MAX_COMPILATIONS
    return torch.compile(compute, fullgraph=True, dynamic=is_dynamic or None)


class Stack(nn.ModuleList):
    """A sequence of blocks.

    Attributes:
        is_residual_cast: True adds the blocks' outputs in the precision of products, as autocast has it.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(Block(config) for _ in range(config.depth))
        self.is_residual_cast = False

    def forward(
        self, x_BLD: Tensor, mask: Tensor | None = None, *, is_causal: bool = False, caches: Sequence[KeyValues] = ()
    ) -> Tensor:
        """Apply the blocks. A bool mask is converted here, which SDPA would do in every layer."""
        dtype = x_BLD.dtype
        if mask is not None:
            mask = additive(mask, product_dtype(x_BLD))
        if self.is_residual_cast:
            x_BLD = x_BLD.to(product_dtype(x_BLD))
        for block, cache in zip_longest(self, caches):
            x_BLD = block(x_BLD, mask, is_causal=is_causal, cache=cache)
        return x_BLD.to(dtype)

    def remember(self, x_BLD: Tensor) -> list[KeyValues]:
        """Return the caches of the blocks after these causal positions, whose last states are not computed."""
        caches: list[KeyValues] = [[] for _ in self]
        if self.is_residual_cast:
            x_BLD = x_BLD.to(product_dtype(x_BLD))
        for block, cache in zip(self, caches, strict=True):
            x_BLD = block(x_BLD, is_causal=True, cache=cache, only_cache=cache is caches[-1])
        return caches
