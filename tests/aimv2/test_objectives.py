import math

import pytest
import torch
import torch.nn.functional as F

from aimv2.model.aimv2 import build
from aimv2.objectives import aimv2_losses, patchify, pixel_loss, standardise


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


def test_a_flat_patch_is_zero_and_not_infinite():
    assert standardise(torch.full((1, 1, 12), 0.3)).abs().max() < 1e-3


@pytest.mark.parametrize("patches", ["batch", "image"])
@pytest.mark.parametrize("values", ["mean", "sum"])
@pytest.mark.parametrize("prefix_len", [[1, 1, 1], [1, 8, 15], [15, 15, 15]])
def test_pixel_loss_is_the_obvious_loop(prefix_len, values, patches):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 3, 16, 16, generator=generator, dtype=torch.float64)
    predicted = torch.randn(3, 16, 48, generator=generator, dtype=torch.float64)
    target = patchify(image, 4)
    errors = []  # per image, of the patches after its prefix, each predicted from the one before
    for b, length in enumerate(prefix_len):
        errors.append([])
        for i in range(length, 16):
            patch = target[b, i]
            wanted = (patch - patch.mean()) / math.sqrt(patch.var() + 1e-6)
            squares = [float(d) ** 2 for d in predicted[b, i - 1] - wanted]
            errors[b].append(sum(squares) / (48 if values == "mean" else 1))
    if patches == "batch":
        scored = [error for of_image in errors for error in of_image]
        expected = sum(scored) / len(scored)
    else:
        expected = sum(sum(of_image) / 16 for of_image in errors) / 3
    actual = pixel_loss(predicted, image, torch.tensor(prefix_len), 4, values=values, patches=patches)
    assert float(actual) == pytest.approx(expected)


def test_only_supervised_tokens_carry_text_loss(tiny, images, tokens):
    model = build(tiny.model, seed=0)
    prefix_len = torch.full((6,), 4)
    supervised = torch.tensor([3, 17, 40, 71])  # places in the flattened [6 x 12]
    _, text = aimv2_losses(
        model, images, tokens, prefix_len, supervised, config=tiny.objective, patch_px=tiny.model.patch_px
    )
    _, hidden = model(images, tokens, prefix_len)
    terms = []
    for place in supervised.tolist():
        b, t = divmod(place, 12)
        logits = model.decoder.text_head(hidden[b, t])
        terms.append(-F.log_softmax(logits, dim=-1)[tokens[b, t]])
    torch.testing.assert_close(text, torch.stack(terms).mean())


def test_text_loss_gives_the_encoder_a_gradient_through_the_image_alone(tiny, images, tokens):
    """Captions are conditioned on the image: without it the encoder would learn nothing from them."""
    model = build(tiny.model, seed=0)
    _, text = aimv2_losses(
        model,
        images,
        tokens,
        torch.full((6,), 4),
        torch.arange(72),
        config=tiny.objective,
        patch_px=tiny.model.patch_px,
    )
    text.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert model.decoder.pixel_head.weight.grad is None
