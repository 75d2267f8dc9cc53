"""RMSNorm and SwiGLU's gate against plain formulas, in one block of rows and in several."""

import pytest
import torch
import torch.nn.functional as F

from aimv2.model import fused
from aimv2.model.fused import RMSNorm, SiluProduct, silu_product

ROWS = [(3,), (2, 5), (4, 9 * fused.BLOCK // (16 * 24) + 1)]  # the last in several blocks, of which the last is short


def plain_norm(x, weight, eps=1e-5):
    return x * (x.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight


def plain_product(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def norm_of(width, dtype, **options):
    norm = RMSNorm(width, 1e-5, **options).to(dtype)
    torch.nn.init.normal_(norm.weight, 1, 0.1, generator=torch.Generator().manual_seed(1))
    return norm


def random(*shape, dtype=torch.float64):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return values.to(dtype).requires_grad_()


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_has_the_values_and_gradients_of_the_formula(rows, dtype):
    x, norm = random(*rows, 24, dtype=dtype), norm_of(24, dtype)
    upstream = torch.randn_like(x)
    found = norm(x), *torch.autograd.grad(norm(x), [x, norm.weight], upstream)
    expected = plain_norm(x, norm.weight)
    for one, other in zip(found, [expected, *torch.autograd.grad(expected, [x, norm.weight], upstream)], strict=True):
        assert one.dtype == dtype
        # The weight's gradient is a sum over rows, in another order.
        assert (one - other).norm() <= 100 * torch.finfo(dtype).eps * other.norm()


def large_norm(x):
    return fused._RMSNorm.apply(x, torch.ones(8), 1e-5, x.dtype)


def test_norm_and_silu_product_pass_gradcheck():
    x, weight = random(3, 5, 8), norm_of(8, torch.float64).weight
    assert torch.autograd.gradcheck(lambda x, weight: fused._RMSNorm.apply(x, weight, 1e-5, x.dtype), (x, weight))
    assert torch.autograd.gradcheck(SiluProduct.apply, random(2, 3, 8))


@pytest.mark.parametrize(("feeds_product", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_norm_under_autocast_is_rounded_only_for_products(feeds_product, dtype):
    x, norm = random(4, 24, dtype=torch.float32), norm_of(24, torch.float32, feeds_product=feeds_product)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, plain_norm(x, norm.weight).to(dtype))
    upstream = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, norm.weight], upstream)
    expected = torch.autograd.grad(plain_norm(x, norm.weight), [x, norm.weight], upstream.float())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_silu_product_has_the_values_and_gradients_of_the_formula(rows, dtype):
    gate_up = random(*rows, 48, dtype=dtype)
    found, expected = silu_product(gate_up), plain_product(gate_up)
    assert torch.equal(found, expected)
    upstream = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad(found, gate_up, upstream), torch.autograd.grad(expected, gate_up, upstream)
    )


@pytest.mark.parametrize("function", [large_norm, SiluProduct.apply])
def test_second_derivatives_are_refused(function):
    x = torch.randn(2, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()
