"""The config of weights, and resampled positions against timm."""

import pytest
import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed

from aimv2.tools.weights import load_encoder, read_published, read_weights, resampled, write_published, write_weights
from aimv2.tools.weights.contents import weights_config


@torch.no_grad()
@pytest.mark.parametrize("image_px", [28, 84, 126])
def test_resampled_positions_equal_timm(image_px, foreign, load, tmp_path):
    table = load_file(foreign / "model.safetensors")["embeddings.position_embedding.weight"][None]
    grid = image_px // 14
    # No CLS token among the positions; bicubic and antialiased, timm's defaults.
    expected = resample_abs_pos_embed(
        table, (grid, grid), num_prefix_tokens=0, interpolation="bicubic", antialias=True, align_corners=None
    )
    write_weights(resampled(read_published(foreign), image_px), tmp_path / "ours")
    ours = load_encoder(tmp_path / "ours")
    torch.testing.assert_close(ours.pos_embed, expected, rtol=0, atol=0)
    weights = read_weights(tmp_path / "ours")
    assert (weights.config.image_px, weights.config.source.resampled_from_px) == (image_px, 56)
    write_published(weights, tmp_path / "back")
    image = torch.randn(1, 3, image_px, image_px)
    torch.testing.assert_close(load["transformers"](tmp_path / "back")(image), ours(image), rtol=1e-4, atol=1e-4)


def test_resampling_to_the_same_size_changes_nothing(foreign):
    weights = read_published(foreign)
    assert resampled(weights, 56) is weights


@pytest.mark.parametrize(
    ("image_px", "message"),
    [(57, "multiple of patch_px=14"), (14, "from 28"), (-56, "from 28"), (14_000_000_000, "to 3584")],
)
def test_impossible_image_sizes_are_refused(image_px, message, foreign, refusal):
    assert message in refusal(resampled, read_published(foreign), image_px)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout_version": 2}, "config.json: layout_version"),
        ({"image_px": 55}, "image_px=55 is not a multiple of patch_px=14"),
        ({"image_px": 14}, "two are needed"),
        ({"encoder": {"width": -1, "depth": 1, "num_heads": 1}}, "encoder.width"),
        ({"encoder": {"width": 128, "depth": 1, "num_heads": 3}}, "width=128 is not divisible by num_heads=3"),
        ({"encoder": {"width": 128, "depth": 1, "num_heads": 1, "more": 1}}, "encoder.more"),
        ({"\x1b[31m\n": 1}, r"unknown key '\x1b[31m\n'. Allowed: encoder, image_px"),
        ({"text_tower": {"width": 1}}, "text_tower"),
        ({"source": None}, "source"),
        ({"text_tower.vocab_size": 2}, "vocab_size"),
        ({"text_tower.end_id": 50}, "end_id=50 is not below vocab_size=50"),
        ({"text_tower.num_heads": 3}, "width=32 is not divisible by num_heads=3"),
    ],
)
def test_invalid_config_is_refused(changes, message, refusal):
    tower = {"width": 32, "depth": 1, "num_heads": 2, "embed_dim": 8}
    tower |= {"vocab_size": 50, "max_text_tokens": 9, "end_id": 1}
    values = {
        "source": {"layout": "ml-aim", "file": "x", "dtypes": ["float32"]},
        "image_px": 56,
        "patch_px": 14,
        "encoder": {"width": 128, "depth": 1, "num_heads": 1},
        "text_tower": tower,
    }
    assert weights_config("config.json", values).encoder.width == 128
    for key, value in changes.items():
        owner, _, last = key.rpartition(".")
        (values[owner] if owner else values)[last] = value
    assert message in refusal(weights_config, "config.json", values)
