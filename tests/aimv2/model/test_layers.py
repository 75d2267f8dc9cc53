import pytest
import torch

from aimv2.config.model_config import TransformerConfig
from aimv2.model.fused import MIN_GATED, MIN_NORMED
from aimv2.model.initial import init_weights_
from aimv2.model.layers import Stack

CONFIG = TransformerConfig(width=24, depth=2, num_heads=3)


@pytest.fixture
def stack():
    stack = Stack(CONFIG)
    init_weights_(stack, seed=0)
    return stack


@torch.no_grad()
def test_cached_and_remembered_positions_give_what_all_at_once_give(stack):
    x = torch.randn(3, 7, 24)
    expected = stack(x, is_causal=True)
    caches = [[] for _ in stack]
    parts = [stack(x[:, :4], is_causal=True, caches=caches)]
    parts += [stack(x[:, i : i + 1], is_causal=True, caches=caches) for i in range(4, 7)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)
    assert {tensor.shape for cache in caches for tensor in cache} == {(3, 3, 7, 8)}
    for found, expected in zip(stack.remember(x), caches, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_stack_that_saves_inputs_has_the_same_gradients_and_saves_less(stack, is_causal):
    x = torch.randn(3, 7, 24)
    outputs, gradients, saved = [], [], []
    for saves_input in (False, True):
        for block in stack:
            block.saves_input = saves_input
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: kept.append(tensor) or tensor, lambda t: t
        ):
            outputs.append(stack(x, is_causal=is_causal))
        stack.zero_grad()
        outputs[-1].square().sum().backward()
        gradients.append([weight.grad for weight in stack.parameters()])
        saved.append(sum(tensor.numel() for tensor in kept))
    assert torch.equal(*outputs)
    assert all(map(torch.equal, *gradients))
    assert saved[1] < saved[0] / 4


def test_a_residual_stream_in_bfloat16_is_near_that_in_float32(stack):
    """And differs from it; without autocast there is nothing to cast."""
    x, found = torch.randn(3, 7, 24), []
    for stack.is_residual_cast in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(stack(x, is_causal=True))
        assert found[-1].dtype == torch.float32
    assert 0 < (found[1] - found[0]).norm() < 0.02 * found[0].norm()
    exact = stack(x, is_causal=True)
    stack.is_residual_cast = False
    assert torch.equal(stack(x, is_causal=True), exact)


def test_stack_with_a_mask_is_the_same_as_causal(stack):
    x = torch.randn(2, 7, 24)
    mask = torch.ones(1, 1, 7, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(stack(x, mask), stack(x, is_causal=True))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(stack(x, mask), stack(x, is_causal=True), rtol=0.02, atol=0.02)


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_compiled_blocks_have_the_gradients_of_eager_ones_with_fused_kernels(precision):
    """The tensors are so large that eager norms and gates are the functions of ``aimv2.model.fused``."""
    stack, x = Stack(TransformerConfig(width=64, depth=2, num_heads=2)), torch.randn(32, 33, 64)
    init_weights_(stack, seed=0)
    assert x.numel() >= MIN_NORMED
    assert 2 * stack[0].ffn.down.in_features * 32 * 33 >= MIN_GATED
    found = []
    for is_compiled in (False, True):
        for block in stack:
            block.is_compiled = is_compiled
        stack.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            out = stack(x, is_causal=True)
        out.square().mean().backward()
        found.append([out, *(weight.grad for weight in stack.parameters())])
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    for eager, compiled in zip(*found, strict=True):
        assert (compiled - eager).norm() <= tolerance * eager.norm()
