"""The encoders that are timed: their features, sizes and FLOPs."""

import sys

import pytest
import torch

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.cost import encoder_cost, forward_flops
from aimv2.model.encoder import Encoder
from benchmarks.encoder import DEPTH, EncoderOptions, build, counted_flops, encoder_config, require_same, time_all

WIDTH, HIDDEN = 1024, 4096


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_timms_encoder_agrees_with_ours(dtype, tolerance):
    """Norms are away from 1 and biases away from 0, so that a missing or misplaced one matters."""
    config = encoder_config(2, 56).model
    ours, generator = Encoder(config).eval(), torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.1, generator=generator)
    image = torch.randn(2, 3, 56, 56, dtype=dtype)
    theirs = build("timm", ours.to(dtype), config, 56, 2)(image)
    assert theirs.dtype == dtype
    assert (theirs - ours(image)).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("factor", [1.001, torch.nan])
def test_encoders_that_differ_are_not_compared(factor):
    features = torch.randn(2, 16, 8)
    require_same(features, features, 1e-4)
    with pytest.raises(RunFailedError, match=r"features of timm differ from ours by (0.001|nan) of their norm"):
        require_same(factor * features, features, 1e-4)


@pytest.mark.parametrize(
    ("name", "image_px", "millions"),
    [("ours", 224, 309.2), ("clip", 224, 303.2), ("siglip", 256, 303.4), ("dinov2", 518, 304.4)],
)
def test_encoders_have_their_published_sizes(name, image_px, millions):
    """Table 1 of AIMv2; CLIP's 304.0 M without its projection of 0.8 M; DINOv2's model card; SigLIP's 316.0 M without
    its pooling of 12.6 M."""
    with torch.device("meta"):
        config = encoder_config(DEPTH, 224).model
        encoder = build(name, Encoder(config), config, image_px, DEPTH)
    assert sum(weight.numel() for weight in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def vit_flops(image_px, patch_px, class_tokens, depth):
    """Return the FLOPs of a ViT with an FFN of two layers."""
    patches = (image_px // patch_px) ** 2
    L = patches + class_tokens
    embed = patches * 3 * patch_px**2 * WIDTH
    block = L * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 2 * L**2 * WIDTH
    return 2 * (embed + depth * block)


@pytest.mark.parametrize(
    ("name", "image_px", "patch_px", "class_tokens"),
    [("clip", 224, 14, 1), ("siglip", 256, 16, 0), ("dinov2", 224, 14, 1), ("clip", 336, 14, 1)],
)
def test_counted_flops_are_the_closed_form_of_a_vit(name, image_px, patch_px, class_tokens):
    config = encoder_config(2, 224).model
    assert counted_flops(name, config, image_px, 2) == vit_flops(image_px, patch_px, class_tokens, 2)


def test_ours_has_the_flops_of_its_closed_form():
    config = encoder_config(2, 224)
    assert counted_flops("ours", config.model, 224, 2) == forward_flops([encoder_cost(config)], 1, 0)


def test_a_row_has_time_rate_and_ratio():
    options = EncoderOptions(depth=1, batch_size=2, repeats=1, models=("ours", "siglip"), device="cpu")
    ours, siglip, product = time_all(options, 16, "float32")
    flops = 2 * counted_flops("siglip", encoder_config(1, 56).model, 64, 1)
    assert siglip["GFLOP / s"] == pytest.approx(flops / (2 * siglip["ms / image"] / 1000) / 1e9)
    assert ours["of the product's"] == pytest.approx(ours["GFLOP / s"] / product["GFLOP / s"])
    assert siglip["its time / ours"].median == pytest.approx(siglip["ms / image"] / ours["ms / image"])
    assert ours["its time / ours"] is product["its time / ours"] is None
    assert product["of the product's"] == pytest.approx(1)


def test_missing_package_is_named_with_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    config = encoder_config(1, 56).model
    with pytest.raises(UsageError, match=r"models=clip: .*timm.*pip install .*models=\[ours\]"):
        build("clip", Encoder(config), config, 56, 1)
