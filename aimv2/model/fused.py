"""RMSNorm and SwiGLU's gate with few passes over memory: torch 2.13 has no fused kernel for the gate, and for the norm
none on the CPU.

Both save their inputs alone for the backward pass. Small tensors have torch's own operations, and compiled code has the
plain formulas, which ``torch.compile`` fuses itself. Letters: N rows, D width, F FFN width.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 2**18  # values of a block of rows: 1 MB in float32, so that a block stays in the processor's cache
# With fewer values the call of a Function takes longer than the passes over memory that it saves.
MIN_NORMED, MIN_GATED = 2**16, 2**18
SILU, SILU_BACKWARD = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input


class RMSNorm(nn.RMSNorm):
    """``nn.RMSNorm``; on the CPU, all operations are applied to one block of rows after the other."""

    def __init__(self, width: int, eps: float, *, feeds_product: bool = False) -> None:
        super().__init__(width, eps=eps)
        self.feeds_product = feeds_product

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)  # of a residual stream in bfloat16
        dtype = product_dtype(x) if self.feeds_product else x.dtype
        is_small = x.numel() < MIN_NORMED and dtype == x.dtype
        is_wide = x.dtype in (torch.float32, torch.float64) and x.dtype == self.weight.dtype
        if x.device.type != "cpu" or is_small or not is_wide or torch.compiler.is_compiling():
            return super().forward(x)
        apply: Callable[..., Tensor] = _RMSNorm.apply  # which torch does not annotate
        return apply(x, self.weight, self.eps, dtype)


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the precision of matrix products with the tensor: autocast's, if it is enabled."""
    device = x.device.type
    is_cast = device != "meta" and torch.is_autocast_enabled(device) and x.dtype == torch.float32
    return torch.get_autocast_dtype(device) if is_cast else x.dtype


class _RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + eps) * weight, over the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        D = x.shape[-1]
        x_ND = x.reshape(-1, D)
        out_ND = torch.empty_like(x_ND, dtype=dtype, memory_format=torch.contiguous_format)
        scale_N1 = x_ND.new_empty(len(x_ND), 1)
        for x_nD, out_nD, scale_n1 in _blocks(D, x_ND, out_ND, scale_N1):
            torch.linalg.vector_norm(x_nD, dim=-1, keepdim=True, out=scale_n1)
            scale_n1.square_().div_(D).add_(eps).rsqrt_()
            if dtype == x.dtype:
                torch.mul(x_nD, scale_n1, out=out_nD).mul_(weight_D)
            else:
                out_nD.copy_((x_nD * scale_n1).mul_(weight_D))
        ctx.save_for_backward(x_ND, weight_D, scale_N1)
        return out_ND.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_ND, weight_D, scale_N1 = ctx.saved_tensors
        D = x_ND.shape[1]
        grad_x_ND, grad_weight_D = torch.empty_like(x_ND), torch.zeros_like(weight_D)
        factor_N1 = scale_N1.pow(3).div_(-D)
        for x_nD, grad_nD, scale_n1, factor_n1, out_nD in _blocks(
            D, x_ND, grad.reshape(x_ND.shape), scale_N1, factor_N1, grad_x_ND
        ):
            grad_nD = grad_nD.to(x_nD.dtype)
            product_nD = grad_nD * x_nD
            grad_weight_D.addmv_(product_nD.T, scale_n1[:, 0])
            # With ``out`` it is float32 even if autocast is enabled here.
            dot_n = torch.mv(product_nD, weight_D, out=scale_n1.new_empty(len(scale_n1)))
            factor_n1.mul_(dot_n[:, None])
            torch.mul(grad_nD, weight_D, out=out_nD).mul_(scale_n1).addcmul_(x_nD, factor_n1)
        return grad_x_ND.view(grad.shape), grad_weight_D, None, None


def silu_product(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up of [..., 2F], gate and up side by side: [..., F]."""
    if not torch.compiler.is_compiling() and gate_up.numel() >= MIN_GATED:
        apply: Callable[[Tensor], Tensor] = SiluProduct.apply  # which torch does not annotate
        return apply(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class SiluProduct(torch.autograd.Function):
    """``silu_product`` whose gradients are written into one tensor."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        grad_gate_up = torch.empty_like(gate_up)
        (gate, up), (grad_gate, grad_up) = gate_up.chunk(2, dim=-1), grad_gate_up.chunk(2, dim=-1)
        SILU(gate, out=grad_up).mul_(grad)
        torch.mul(grad, up, out=grad_gate)
        SILU_BACKWARD(grad_gate, gate, grad_input=grad_gate)
        return grad_gate_up


def _blocks(width: int, *tensors: Tensor) -> Any:
    """Cut tensors of N rows into the same blocks of rows, of about BLOCK values in a tensor of this width."""
    rows = max(1, BLOCK // width)
    if len(tensors[0]) <= rows:
        return (tensors,)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
