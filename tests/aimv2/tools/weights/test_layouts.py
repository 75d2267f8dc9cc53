"""Published layouts: their config.json, tensors and positions. Of another model, they are refused with the reason."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Aimv2Config, Aimv2TextConfig, Aimv2VisionConfig

from aimv2.tools.weights import read_published
from aimv2.tools.weights.layouts import DEFAULT_EMBED_DIM, TEXT_DEFAULTS, VISION_DEFAULTS, weights_config

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
        ("text_config.model_type", "x", "text_config must be an object with model_type='aimv2_text_model'"),
        ("vision_config.model_type", "x", "vision_config must be an object with model_type='aimv2_vision_model'"),
        ("text_config.intermediate_size", 128, "text_config: intermediate_size=128"),
        ("projection_dim", 32, "'text_projection.weight' [24, 32], expected [32, 32]"),
        ("max_logit_scale", 50.0, "max_logit_scale=50.0"),
        ("text_config", [1], "text_config must be an object"),
        ("text_config.eos_token_id", 50, "end_id=50 is not below"),
        ("text_config.eos_token_id", [7, 8], "end_id"),
        ("text_config.eos_token_id", None, "end_id"),
        ("text_config.vocab_size", 51, "'text_model.embeddings.token_embedding.weight' [50, 32], expected [51, 32]"),
        ("text_config.max_position_embeddings", 77, "[9, 32], expected [77, 32]"),
        ("vision_config.hidden_size", 1024, "vision_config: intermediate_size=512"),
    ],
)
def test_config_of_a_pair_that_contradicts_the_tensors_is_refused(key, value, message, pair, edit_json, refusal):
    edit_json(pair, {key: value})
    assert message in refusal(read_published, pair)


def test_missing_values_are_the_defaults_of_transformers(foreign, refusal):
    assert VISION_DEFAULTS.items() <= Aimv2VisionConfig().to_dict().items()
    assert TEXT_DEFAULTS.items() <= Aimv2TextConfig().to_dict().items()
    assert Aimv2Config().projection_dim == DEFAULT_EMBED_DIM
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


def test_weights_without_config_are_refused(foreign, pair, refusal):
    for folder in (foreign, pair):
        (folder / "config.json").unlink()
        assert "needs its config.json beside it" in refusal(read_published, folder)


def test_pair_with_a_negative_logit_scale_is_refused(make_pair, refusal, tmp_path):
    make_pair(tmp_path / "pair", log_scale=-1.0)
    assert "logit_scale=-1 is below 0" in refusal(read_published, tmp_path / "pair")


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
    ("edit", "message"),
    [
        (without("vision_model.embeddings.pos"), "vision_config: is_native=False"),
        (without("text_model.encoder.layers.0."), "9 missing ('text_model.encoder.layers.0."),
        (without("text_projection"), "1 missing ('text_projection.weight')"),
        (with_one("text_projection.weight", torch.zeros(24)), "[24], expected [24, 32]"),
        (with_one("logit_scale", torch.zeros(1)), "[1], expected []"),
        (with_one("logit_bias", torch.zeros(())), "1 unexpected ('logit_bias')"),
    ],
)
def test_tensors_of_another_pair_are_refused(edit, message, pair, refusal):
    change(pair, edit)
    assert message in refusal(read_published, pair)


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
        ({"text_tower.end_id": 50}, "end_id=50 is not below vocab_size=50"),
        ({"text_tower.num_heads": 3}, "width=32 is not divisible by num_heads=3"),
    ],
)
def test_invalid_config_of_ours_is_refused(changes, message, refusal):
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
