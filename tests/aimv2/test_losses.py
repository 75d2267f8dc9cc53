"""The losses against loops and open_clip."""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from aimv2.losses import (
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


def test_standardised_patches_have_mean_zero_and_unbiased_variance_one():
    patches = standardise(5 + 3 * torch.randn(4, 7, 48, dtype=torch.float64))
    torch.testing.assert_close(patches.mean(-1), torch.zeros(4, 7, dtype=torch.float64))
    torch.testing.assert_close(patches.var(-1), torch.ones(4, 7, dtype=torch.float64), rtol=1e-5, atol=0)


def test_flat_patch_is_standardised_to_zero():
    assert standardise(torch.full((1, 1, 12), 0.3)).abs().max() < 1e-3


def test_standardise_has_the_released_codes_formula():
    patch = torch.tensor([0.001, 0.002, 0.004, 0.001], dtype=torch.float64)  # so little spread that 1e-6 counts
    mean = 0.002
    variance = sum((value - mean) ** 2 for value in patch.tolist()) / 3
    expected = [(value - mean) / math.sqrt(variance + 1e-6) for value in patch.tolist()]
    assert standardise(patch[None, None])[0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("is_mean_by_image", [False, True])
@pytest.mark.parametrize("values", ["mean", "sum"])
@pytest.mark.parametrize("prefix_len", [[1, 1, 1], [1, 8, 15], [15, 15, 15], [16, 3, 16]])
def test_pixel_loss_matches_a_loop_over_patches(prefix_len, values, is_mean_by_image):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 16, 48, generator=generator, dtype=torch.float64)
    predicted = torch.randn(3, 16, 48, generator=generator, dtype=torch.float64)
    errors = []  # per image, of the patches after its prefix, each predicted from the one before
    for b, length in enumerate(prefix_len):
        errors.append([])
        for i in range(length, 16):
            squares = [float(d) ** 2 for d in predicted[b, i - 1] - target[b, i]]
            errors[b].append(sum(squares) / (48 if values == "mean" else 1))
    if is_mean_by_image:
        errors = [[sum(of_image) / len(of_image)] for of_image in errors if of_image]
    expected = sum(sum(of_image) for of_image in errors) / 7
    actual = pixel_loss(
        predicted, target, torch.tensor(prefix_len), count=7, values=values, is_mean_by_image=is_mean_by_image
    )
    assert float(actual) == pytest.approx(expected)


def test_pixel_loss_has_gradients_at_scored_predictions_only():
    predicted = torch.randn(2, 6, 4, requires_grad=True)
    pixel_loss(predicted, torch.randn(2, 6, 4), torch.tensor([2, 5]), count=5).backward()
    # Position i predicts patch i+1, so a prefix of 2 is followed by targets 2 to 5, from positions 1 to 4.
    assert [row.nonzero().flatten().tolist() for row in predicted.grad.abs().sum(dim=-1)] == [[1, 2, 3, 4], [4]]


def test_pixel_loss_of_bfloat16_predictions_is_float32():
    predicted = torch.randn(2, 6, 4, dtype=torch.bfloat16)
    target = torch.randn(2, 6, 4)
    loss = pixel_loss(predicted, target, torch.tensor([2, 5]), count=5)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pixel_loss(predicted.float(), target, torch.tensor([2, 5]), count=5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_text_loss_is_the_mean_surprisal_in_nats(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=generator, dtype=torch.float64).to(dtype)
    target = torch.tensor([0, 6, 3, 3, 1])
    surprises = []
    for row, token in zip(logits.double().tolist(), target.tolist(), strict=True):
        surprises.append(math.log(sum(math.exp(value) for value in row)) - row[token])
    loss = text_loss(logits, target, 5)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(loss) == pytest.approx(sum(surprises) / 5, rel=1e-5)


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


def test_softmax_contrast_matches_a_loop_over_pairs():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    surprises = []
    for pair in range(4):
        by_image = sum(math.exp(logits[pair][text]) for text in range(4))
        by_text = sum(math.exp(logits[image][pair]) for image in range(4))
        surprises += [math.log(by_image) - logits[pair][pair], math.log(by_text) - logits[pair][pair]]
    assert float(softmax_contrast(torch.tensor(logits, dtype=torch.float64))) == pytest.approx(sum(surprises) / 8)


@pytest.mark.parametrize("pairs", [1, 3])
def test_sigmoid_contrast_matches_a_loop_over_pairs(pairs):
    logits = torch.randn(pairs, pairs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = 0.0
    for image in range(pairs):
        for text in range(pairs):
            sign = 1 if text == image else -1
            total += math.log(1 + math.exp(-sign * float(logits[image, text])))
    assert float(sigmoid_contrast(logits)) == pytest.approx(total / pairs)


def test_contrasts_vanish_for_confident_matches_and_stay_finite_for_mismatches():
    right = 1e4 * (2 * torch.eye(3) - 1)
    for contrast in (softmax_contrast, sigmoid_contrast):
        assert float(contrast(right)) == pytest.approx(0)
        assert torch.isfinite(contrast(-right))


@pytest.mark.parametrize("first", [0, 2, 4])
def test_parts_of_a_batch_have_the_gradients_of_the_whole(first):
    """With the others known, and gradients that are divided by three ranks."""
    whole = torch.randn(6, 3, dtype=torch.float64)
    own = whole[first : first + 2].clone().requires_grad_()
    vectors = spliced(whole, magnified(own, 3), first)
    assert torch.equal(vectors, whole)
    (vectors.prod() / 3).backward()
    expected = whole.clone().requires_grad_()
    expected.prod().backward()
    torch.testing.assert_close(own.grad, expected.grad[first : first + 2])
