"""timm's config.json: agreement with the tensors, and with the architectures that timm has registered."""

import pytest
import timm
import torch
from aimv2.tools.weights import WeightsConfig, read_published
from aimv2.tools.weights.contents import Source
from aimv2.tools.weights.timm import WIDTHS, Timm
from safetensors.torch import load_file, save_file

from aimv2.config.model_config import EncoderConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vit_large_patch14_224"}, "architecture='vit_large_patch14_224'"),
        ({"architecture": None}, "architecture=None"),
        ({"model_args.act_layer": "gelu"}, "act_layer"),
        ({"model_args.depth": 2}, "depth=2"),
        ({"model_args.img_size": [56, 70]}, "img_size=[56, 70]"),
        ({"model_args.img_size": [[56], [56]]}, "img_size=[56]"),
        ({"model_args.in_chans": 1}, "in_chans=1"),
        ({"model_args.mlp_ratio": 2.75}, "mlp_ratio=2.75, but with embed_dim=128 it must be 512 / 128"),
        ({"model_args.mlp_ratio": 10**400}, "mlp_ratio"),
        ({"model_args.mlp_ratio": float("nan")}, "mlp_ratio"),
        ({"model_args.mlp_ratio": None}, "mlp_ratio"),
        ({"model_args.num_heads": 3}, "num_heads=3"),
        ({"model_args": [1]}, "model_args=[1]"),
        ({"model_args": {}}, "img_size=224"),
        ({"model_args": {"img_size": 56}}, "embed_dim=1024"),
    ],
)
def test_config_that_contradicts_the_tensors_is_refused(changes, message, foreign_timm, edit_json, refusal):
    edit_json(foreign_timm, changes)
    assert message in refusal(read_published, foreign_timm)


def test_image_size_may_be_a_list_and_the_ratio_missing(foreign_timm, edit_json):
    sizes = {"embed_dim": 128, "depth": 1, "num_heads": 1}
    edit_json(foreign_timm, {"model_args": {**sizes, "img_size": [56, 56]}})
    assert read_published(foreign_timm).config.image_px == 56


def test_missing_positions_are_refused(foreign_timm, refusal):
    state = load_file(foreign_timm / "model.safetensors")
    del state["pos_embed"]
    save_file(state, foreign_timm / "model.safetensors")
    assert "lack 'pos_embed'" in refusal(read_published, foreign_timm)


OTHERS = sorted(WIDTHS.keys() - {"large"})


def published(width, depth=1, image_px=448):
    encoder = EncoderConfig(width=width, depth=depth, num_heads=width // 128)
    source = Source(layout="timm", file="x", dtypes=())
    return WeightsConfig(source=source, image_px=image_px, patch_px=14, encoder=encoder)


def test_mlp_ratio_rounds_down_to_the_hidden_width():
    for width in range(128, 128 * 50, 128):
        config = published(width)
        ratio = Timm().description(config)["model_args"]["mlp_ratio"]
        assert int(width * ratio) == config.encoder.ffn_hidden  # as timm computes it


@pytest.mark.parametrize("size", ["large", *(pytest.param(size, marks=pytest.mark.exhaustive) for size in OTHERS)])
def test_published_encoder_is_described_as_registered_in_timm(size):
    config = published(WIDTHS[size], depth=24)
    description = Timm().description(config)
    assert description["architecture"] == f"aimv2_{size}_patch14_224"
    with torch.device("meta"):
        registered = timm.create_model(f"aimv2_{size}_patch14_448", num_classes=0)
        ours = timm.create_model(description["architecture"], **description["model_args"])
    assert ours.blocks[0].attn.num_heads == registered.blocks[0].attn.num_heads
    expected = {name: value.shape for name, value in registered.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected
    bare = Timm().stated("config.json", {"architecture": f"aimv2_{size}_patch14_448"})
    Timm().check("config.json", bare, config)
