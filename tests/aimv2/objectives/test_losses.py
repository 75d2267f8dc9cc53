"""The losses against loops and open_clip."""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from aimv2.objectives.losses import (
    magnified,
    patchify,
    pixel_loss,
    sigmoid_contrast,
    softmax_contrast,
    spliced,
    standardise,
    text_loss,
)


def test_patches_are_in_raster_order_with_values_by_row_column_channel():
    image = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).view(2, 3, 6, 6)
    patches = patchify(image, 2)
    for b in range(2):
        for i in range(9):
            expected = [
                image[b, c, i // 3 * 2 + r, i % 3 * 2 + k] for r in range(2) for k in range(2) for c in range(3)
            ]
            assert patches[b, i].tolist() == [float(v) for v in expected]


def test_standardise_has_the_released_codes_formula():
    patch = torch.tensor([0.001, 0.002, 0.004, 0.001], dtype=torch.float64)  # so little spread that 1e-6 counts
    mean = 0.002
    variance = sum((value - mean) ** 2 for value in patch.tolist()) / 3
    expected = [(value - mean) / math.sqrt(variance + 1e-6) for value in patch.tolist()]
    assert standardise(patch[None, None])[0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("values", ["mean", "sum"])
def test_pixel_loss_matches_a_loop_over_patches(values, is_weighted):
    generator = torch.Generator().manual_seed(0)
    target, predicted = (torch.randn(5, 48, generator=generator, dtype=torch.float64) for _ in range(2))
    total = 0
    for k in range(5):
        squares = [float(d) ** 2 for d in predicted[k] - target[k]]
        total += (0.5 + k if is_weighted else 1) * sum(squares) / (48 if values == "mean" else 1)
    weight = 0.5 + torch.arange(5) if is_weighted else None
    actual = pixel_loss(predicted, target, count=7, values=values, weight_K=weight)
    assert float(actual) == pytest.approx(total / 7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_text_loss_is_the_mean_surprisal_in_nats(dtype):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 4, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(7, 4, generator=generator, dtype=torch.float64).to(dtype)
    target = torch.tensor([0, 6, 3, 3, 1])
    surprises = []
    for row, token in zip((hidden @ weight.T).double().tolist(), target.tolist(), strict=True):
        surprises.append(math.log(sum(math.exp(value) for value in row)) - row[token])
    loss = text_loss(hidden, weight, target, 5)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(loss) == pytest.approx(sum(surprises) / 5, rel=1e-5)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("is_autocast", [False, True])
def test_text_loss_of_many_tokens_is_the_same_and_never_has_all_logits(is_autocast, is_weighted):
    """Oracle: torch's cross-entropy of all logits at once."""
    generator = torch.Generator().manual_seed(0)
    num_tokens, vocabulary = 25, 40
    hidden = torch.randn(num_tokens, 4, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, 4, generator=generator, requires_grad=True)
    target = torch.randint(vocabulary, (num_tokens,), generator=generator)
    weights = torch.rand(num_tokens, generator=generator) if is_weighted else None
    sizes, found = [], {}
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        for name in ("chunks", "whole"):
            with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
                if name == "chunks":
                    some = 10 * vocabulary
                    loss = text_loss(hidden, weight, target, num_tokens, weight_N=weights, max_logits=some)
                    assert max(sizes) < num_tokens * vocabulary / 2, "logits are not saved"
                else:
                    each = F.cross_entropy(F.linear(hidden, weight).float(), target, reduction="none")
                    loss = (each if weights is None else each * weights).mean()
            assert loss.dtype == torch.float32
            found[name] = (loss.detach(), *torch.autograd.grad(loss, [hidden, weight]))
    for one, other in zip(*found.values(), strict=True):
        assert (one - other).norm() <= (1e-2 if is_autocast else 1e-6) * other.norm()


@pytest.fixture
def pairs_of_vectors():
    """Unit vectors of five images and their texts, a scale and a bias, all with gradients."""
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    scale, bias = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)
    return [value.requires_grad_() for value in (F.normalize(image, dim=1), F.normalize(text, dim=1), scale, bias)]


@pytest.mark.parametrize(
    ("contrast", "open_clips", "num_inputs"),
    [(softmax_contrast, ClipLoss(), 3), (sigmoid_contrast, SigLipLoss(), 4)],
    ids=["softmax", "sigmoid"],
)
def test_contrast_matches_open_clip(pairs_of_vectors, contrast, open_clips, num_inputs):
    image, text, scale, *bias = inputs = pairs_of_vectors[:num_inputs]
    ours, theirs = contrast(scale * image @ text.T + sum(bias)), open_clips(*inputs)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad(loss, inputs) for loss in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        assert mine.abs().sum() > 0
        torch.testing.assert_close(mine, other)


def test_contrasts_vanish_for_confident_matches_and_stay_finite_for_mismatches():
    right = 1e4 * (2 * torch.eye(3) - 1)
    for contrast in (softmax_contrast, sigmoid_contrast):
        assert float(contrast(right)) == pytest.approx(0)
        assert torch.isfinite(contrast(-right))


@pytest.mark.parametrize("first", [0, 2, 4])
def test_parts_of_a_batch_have_the_gradients_of_the_whole(first):
    whole = torch.randn(6, 3, dtype=torch.float64)
    own = whole[first : first + 2].clone().requires_grad_()
    vectors = spliced(whole, magnified(own, 3), first)
    assert torch.equal(vectors, whole)
    (vectors.prod() / 3).backward()
    expected = whole.clone().requires_grad_()
    expected.prod().backward()
    torch.testing.assert_close(own.grad, expected.grad[first : first + 2])
