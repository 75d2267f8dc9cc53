"""Published layouts: their config.json, tensors and positions. Of another model, they are refused with the reason."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Aimv2VisionConfig

from aimv2.tools.weights import read_published
from aimv2.tools.weights_layouts import DEFAULTS, weights_config

GATE, TABLE = "encoder.layers.0.ffn.gate_proj.weight", "embeddings.position_embedding.weight"
PATCHES = "embeddings.patch_embed.weight"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", 10**12, "less than or equal to 65536"),
        ("hidden_size", -128, "width"),
        ("hidden_size", "128", "hidden_size='128', but an AIMv2 of these sizes and tensors has 128"),
        ("hidden_size", 128.0, "hidden_size=128.0"),
        ("hidden_size", None, "width"),
        ("hidden_size", 256, "intermediate_size=512, but an AIMv2 of these sizes and tensors has 768"),
        ("num_hidden_layers", 2, "9 missing ('encoder.layers.1."),
        ("num_hidden_layers", True, "num_hidden_layers=True"),
        ("num_hidden_layers", 2000, "depth: Input should be less than or equal to 1024 (got 2000)"),
        ("intermediate_size", 640, "intermediate_size=640"),
        ("patch_size", 16, "image_px=56 is not a multiple of patch_px=16"),
        ("patch_size", [14, 14], "patch_px"),
        ("num_channels", 1, "num_channels=1"),
        ("num_attention_heads", 3, "num_heads=3"),
        ("num_attention_heads", 0, "num_heads"),
        ("num_attention_heads", 10**30, "num_heads"),
        ("image_size", 224, f"'{TABLE}' [16, 128], expected [256, 128]"),
        ("image_size", "56", "image_size='56'"),
        ("is_native", True, "is_native=True"),
        ("hidden_act", "gelu", "hidden_act='gelu'"),
        ("rms_norm_eps", 1e-6, "rms_norm_eps=1e-06"),
        ("qkv_bias", True, "qkv_bias=True"),
        ("mlp_bias", True, "mlp_bias=True"),
        ("use_bias", True, "use_bias=True"),
        ("model_type", "clip_vision_model", "model_type='clip_vision_model' must be 'aimv2_vision_model'"),
        ("model_type", "aimv2", "model_type='aimv2' must be 'aimv2_vision_model'"),
        ("model_type", ["aimv2_vision_model"], "model_type=['aimv2_vision_model'] must be"),
    ],
)
def test_config_that_contradicts_the_tensors_is_refused(key, value, message, foreign, edit_json, refusal):
    edit_json(foreign, {key: value})
    assert message in refusal(read_published, foreign)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "clip", "model_type='clip' must be 'aimv2'"),
        ("vision_config.model_type", "x", "model_type='x' must be 'aimv2_vision_model'"),
        ("vision_config", [1], "vision_config must be an object"),
        ("vision_config.hidden_size", 1024, "intermediate_size=512, but an AIMv2 of these sizes and tensors has 2816"),
    ],
)
def test_config_of_a_pair_that_contradicts_the_tensors_is_refused(
    key, value, message, foreign_pair, edit_json, refusal
):
    edit_json(foreign_pair, {key: value})
    assert message in refusal(read_published, foreign_pair)


def test_a_pair_with_other_tensors_is_refused(foreign_pair, refusal):
    change(foreign_pair, with_one("logit_bias", torch.zeros(())))
    assert "a pair of encoders with 1 unexpected ('logit_bias')" in refusal(read_published, foreign_pair)


def test_missing_values_are_the_defaults_of_transformers(foreign, refusal):
    assert DEFAULTS.items() <= Aimv2VisionConfig().to_dict().items()
    values = json.loads((foreign / "config.json").read_text())
    del values["num_attention_heads"]
    (foreign / "config.json").write_text(json.dumps(values))
    assert read_published(foreign).config.encoder.num_heads == 8
    (foreign / "config.json").write_text("{}")
    assert "of another shape" in refusal(read_published, foreign)


@pytest.mark.parametrize(("image_size", "image_px"), [(84, 84), (97, 224), (10**9, 224), ("any", 224), (None, 224)])
def test_image_size_of_a_native_model_is_not_checked(image_size, image_px, make, edit_json, tmp_path):
    make["transformers"](tmp_path / "native", 32, 1, 1, is_native=True)
    edit_json(tmp_path / "native", {"image_size": image_size})
    config = read_published(tmp_path / "native").config
    assert (config.image_px, config.encoder.positions) == (image_px, "sincos")


def test_weights_without_config_are_refused(foreign, foreign_pair, refusal):
    for folder in (foreign, foreign_pair):
        (folder / "config.json").unlink()
        assert "needs its config.json beside it" in refusal(read_published, folder)


@pytest.mark.parametrize("model_type", ["aimv2", "aimv2_vision_model"])
def test_config_of_ml_aim_may_be_from_apple_or_transformers(model_type, foreign_ml_aim, edit_json, refusal):
    edit_json(foreign_ml_aim, {"model_type": model_type})
    assert read_published(foreign_ml_aim).config.encoder.width == 128
    edit_json(foreign_ml_aim, {"model_type": "vit"})
    assert "model_type='vit' must be 'aimv2' or 'aimv2_vision_model'" in refusal(read_published, foreign_ml_aim)


def change(folder, edit):
    path = folder / "model.safetensors"
    state = {name: value.clone() for name, value in load_file(path).items()}
    edit(state)
    save_file(state, path)


def without(*parts):
    def edit(state):
        for name in [name for name in state if any(part in name for part in parts)]:
            del state[name]

    return edit


def with_one(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without(GATE), f"1 missing ('{GATE}')"),
        (without("layers.0"), "9 missing ('encoder.layers.0."),
        (without(PATCHES), f"1 missing ('{PATCHES}')"),
        (without(TABLE), "is_native=False, but an AIMv2 of these sizes and tensors has True"),
        (without(""), "holds no tensors"),
        (with_one("head.weight", torch.zeros(10, 128)), "1 unexpected ('head.weight')"),  # timm's
        (with_one("more.head.cls_token", torch.zeros(1, 1, 128)), "1 unexpected ('more.head.cls_token')"),
        (with_one("encoder.layers.0.attention.q_proj.bias", torch.zeros(128)), "1 unexpected"),
        (with_one("encoder.layers.0.attention.k_proj.weight", torch.zeros(128, 64)), "1 of another shape"),
        (with_one(GATE, torch.zeros(640, 128)), "[640, 128], expected [512, 128]"),
        (with_one(PATCHES, torch.zeros(128, 588)), "[128, 588], expected [128, 3, 14, 14]"),
        (with_one("rms_norm.weight", torch.tensor([1.0] * 127 + [-torch.inf])), "not finite"),
        (
            lambda state: [state[name].fill_(torch.nan) for name in ("rms_norm.weight", GATE)],
            f"not finite in 2 tensors ('{GATE}', 'rms_norm.weight')",
        ),
        (
            lambda state: state.update({f"more.{i}." + "x" * 300: torch.zeros(1) for i in range(200)}),
            "200 unexpected (",
        ),
    ],
)
def test_tensors_of_another_encoder_are_refused(edit, message, foreign, refusal):
    change(foreign, edit)
    assert message in refusal(read_published, foreign)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout_version": 2}, "config.json: layout_version"),
        ({"image_px": 55}, "image_px=55 is not a multiple of patch_px=14"),
        ({"image_px": 14}, "two are needed"),
        ({"encoder": {"width": 128, "depth": 1, "num_heads": 3}}, "width=128 is not divisible by num_heads=3"),
        ({"encoder": {"width": 128, "depth": 1, "num_heads": 1, "more": 1}}, "encoder.more"),
        ({"\x1b[31m\n": 1}, r"unknown key '\x1b[31m\n'. Allowed: encoder, image_px"),
        ({"text_tower": {"width": 1}}, "text_tower"),
        ({"source": None}, "source"),
    ],
)
def test_invalid_config_of_ours_is_refused(changes, message, refusal):
    values = {"source": {"layout": "ml-aim", "file": "x", "dtypes": ["float32"]}, "image_px": 56, "patch_px": 14}
    values["encoder"] = {"width": 128, "depth": 1, "num_heads": 1}
    assert weights_config("config.json", values).encoder.width == 128
    assert message in refusal(weights_config, "config.json", values | changes)
