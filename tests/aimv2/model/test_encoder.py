"""The encoder against timm, and what its mask lets through; against transformers: tools/test_weights.py."""

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch

from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig
from aimv2.model import positions
from aimv2.model.encoder import Encoder
from aimv2.model.positions import reading_order
from aimv2.objectives.build import build
from aimv2.objectives.losses import patchify


def model_config(*, width, depth, num_heads, image_px, patch_px, **changes):
    return ModelConfig(
        encoder=EncoderConfig(width=width, depth=depth, num_heads=num_heads, **changes),
        decoder=DecoderConfig(width=32, depth=1, num_heads=1),
        image_px=image_px,
        patch_px=patch_px,
        vocab_size=16,
        max_text_tokens=4,
    )


def randomise(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.05, generator=generator)
        if parameter.ndim == 1:
            parameter.data.add_(1)  # norms: weights around 1 but not 1, so that a missing norm is noticed


@torch.no_grad()
def test_prefix_mask_hides_later_patches(tiny, images):
    encoder = build(tiny).encoder
    prefix_len = torch.tensor([1, 3, 8, 12, 14, 15])
    before = encoder(images, prefix_len)
    for changed_patch in range(1, tiny.model.num_patches):
        other = patchify(images, tiny.model.patch_px)
        other[:, changed_patch] += 1
        after = encoder(unpatchify(other, tiny.model.patch_px), prefix_len)
        for row, length in enumerate(prefix_len.tolist()):
            # A change inside the prefix reaches every position; one after it, only those from it on.
            first_reached = 0 if changed_patch < length else changed_patch
            assert torch.equal(before[row, :first_reached], after[row, :first_reached])
            assert not torch.equal(before[row, first_reached], after[row, first_reached])


def unpatchify(patch_BIP, patch_px):
    """Invert patchify, in an obvious loop."""
    grid = round(patch_BIP.shape[1] ** 0.5)
    image = torch.empty(len(patch_BIP), 3, grid * patch_px, grid * patch_px)
    for i in range(patch_BIP.shape[1]):
        top, left = i // grid * patch_px, i % grid * patch_px
        cell = patch_BIP[:, i].view(-1, patch_px, patch_px, 3)
        image[:, :, top : top + patch_px, left : left + patch_px] = cell.permute(0, 3, 1, 2)
    return image


@torch.no_grad()
def test_norms_and_residual_stream_stay_float32_under_bfloat16(tiny, images, tokens):
    model = build(tiny)
    seen = {}

    def note(name):
        def hook(module, inputs, output):
            seen[name] = inputs[0].dtype

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.RMSNorm):
            module.register_forward_hook(note(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(images, tokens)
    assert set(seen.values()) == {torch.float32}
    assert len(seen) == 2 * (tiny.model.encoder.depth + tiny.model.decoder.depth) + 3


@torch.no_grad()
@pytest.mark.parametrize("order", ["spiral", "random"])
def test_reading_order_moves_patches_with_their_positions(tiny, images, order):
    """With full attention the features are those of raster order, permuted."""
    raster = build(tiny).encoder
    other = build(replace(tiny, model=replace(tiny.model, patch_order=order))).encoder
    places = list(reading_order(order, 4))
    torch.testing.assert_close(other(images), raster(images)[:, places])


@torch.no_grad()
def test_layer_norm_and_gelu_match_timm():
    config = model_config(width=64, depth=2, num_heads=4, image_px=32, patch_px=8, norm="layer", ffn="gelu")
    encoder = Encoder(config)
    randomise(encoder)
    other = timm.models.vision_transformer.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=64,
        depth=2,
        num_heads=4,
        class_token=False,
        global_pool="",
        num_classes=0,
        qkv_bias=False,
        proj_bias=False,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
        embed_norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
    ).eval()
    state = {
        "patch_embed.proj.weight": encoder.patch_embed.weight,
        "patch_embed.proj.bias": encoder.patch_embed.bias,
        "pos_embed": encoder.pos_embed,
    }
    norms = {"patch_embed.norm": encoder.patch_norm, "norm": encoder.norm}
    for number, block in enumerate(encoder.blocks):
        stem = f"blocks.{number}"
        norms |= {f"{stem}.norm1": block.norm1, f"{stem}.norm2": block.norm2}
        state |= {f"{stem}.attn.qkv.weight": block.attn.qkv.weight, f"{stem}.attn.proj.weight": block.attn.out.weight}
        state |= {f"{stem}.mlp.fc1.weight": block.ffn.up.weight, f"{stem}.mlp.fc2.weight": block.ffn.down.weight}
    state |= {f"{name}.{part}": getattr(norm, part) for name, norm in norms.items() for part in ("weight", "bias")}
    # timm's FFN has biases; with zeros it is ours.
    zeros = {name: torch.zeros_like(value) for name, value in other.state_dict().items() if ".mlp." in name}
    other.load_state_dict({name: value for name, value in zeros.items() if name.endswith("bias")} | state, strict=True)
    image = torch.randn(2, 3, 32, 32)
    expected = other.forward_features(image)
    assert (encoder(image) - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("changes", [{"patch_order": "spiral"}, {"positions": "sincos"}], ids=str)
def test_caches_filled_in_inference_mode_serve_training(tiny, images, changes):
    encoder = replace(tiny.model.encoder, positions=changes.get("positions", "learned"))
    order = changes.get("patch_order", "raster")
    network = build(replace(tiny, model=replace(tiny.model, encoder=encoder, patch_order=order)))
    positions.sincos.cache_clear()
    positions._on_device.cache_clear()
    with torch.inference_mode():
        network.encoder(images)
    network.encoder(images).sum().backward()
