"""The config.json of each layout: defaults, and agreement with the tensors."""

import json

import pytest
import torch
from transformers import Aimv2Config, Aimv2TextConfig, Aimv2VisionConfig, Aimv2VisionModel

from aimv2.tools.weights import load_encoder, read_published, write_weights
from aimv2.tools.weights.layouts import PAIR_DEFAULTS, TEXT_DEFAULTS, VISION_DEFAULTS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 10**12),
        ("hidden_size", -128),
        ("hidden_size", "128"),
        ("hidden_size", 128.0),
        ("hidden_size", float("inf")),
        ("hidden_size", None),
        ("num_hidden_layers", 2),
        ("num_hidden_layers", True),
        ("intermediate_size", 640),
        ("patch_size", 16),
        ("patch_size", [14, 14]),
        ("num_channels", 1),
        ("num_attention_heads", 3),
        ("num_attention_heads", 0),
        ("num_attention_heads", -1),
        ("num_attention_heads", 10**30),
        ("num_attention_heads", None),
        ("num_attention_heads", "1"),
        ("image_size", 224),
        ("image_size", "56"),
        ("is_native", True),
        ("is_native", "no"),
        ("hidden_act", "gelu"),
        ("rms_norm_eps", 1e-6),
        ("qkv_bias", True),
        ("mlp_bias", True),
        ("use_bias", True),
    ],
)
def test_config_that_contradicts_the_tensors_is_refused(key, value, foreign, edit_json, refusal):
    edit_json(foreign, {key: value})
    message = refusal(read_published, foreign)
    assert "config.json" in message
    assert ("num_heads" if key == "num_attention_heads" and value != "1" else key) in message


@pytest.mark.parametrize("model_type", ["clip_vision_model", "aimv2", None, ["aimv2_vision_model"]])
def test_config_of_another_kind_of_model_is_refused(model_type, foreign, edit_json, refusal):
    edit_json(foreign, {"model_type": model_type, "num_attention_heads": 3})  # 3 heads alone would be refused otherwise
    message = refusal(read_published, foreign)
    assert f"config.json: model_type={model_type!r} must be 'aimv2_vision_model'" in message


def test_ffn_of_another_width_is_refused(foreign, edit_json, refusal, tmp_path):
    rule = "intermediate_size=128, but with hidden_size=128 AIMv2 has 512: 8/3 of it, rounded up to a multiple of 256"
    edit_json(foreign, {"intermediate_size": 128})
    assert rule in refusal(read_published, foreign)
    narrow = Aimv2VisionConfig.from_pretrained(foreign)  # its tensors agree with its config
    Aimv2VisionModel(narrow).save_pretrained(tmp_path / "narrow")
    assert rule in refusal(read_published, tmp_path / "narrow")
    (tmp_path / "narrow/config.json").unlink()
    assert "[128, 128], expected [512, 128]" in refusal(read_published, tmp_path / "narrow")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "clip", "model_type='clip' must be 'aimv2'"),
        ("text_config.model_type", "x", "text_config: model_type='x' must be 'aimv2_text_model'"),
        ("vision_config.model_type", "x", "vision_config: model_type='x' must be 'aimv2_vision_model'"),
        ("text_config.intermediate_size", 128, "text_config: intermediate_size=128, but with hidden_size=32 AIMv2 has"),
        ("projection_dim", 32, "projection_dim=32"),
        ("max_logit_scale", 50.0, "max_logit_scale=50.0"),
        ("text_config", [1], "text_config"),
        ("text_config.eos_token_id", 50, "end_id=50 is not below"),
        ("text_config.eos_token_id", [7, 8], "end_id"),
        ("text_config.eos_token_id", None, "end_id"),
        ("text_config.vocab_size", 51, "vocab_size=51"),
        ("text_config.max_position_embeddings", 77, "max_position_embeddings=77"),
        ("text_config.num_attention_heads", 5, "num_heads=5"),
        ("text_config.hidden_act", "gelu", "hidden_act='gelu'"),
        ("vision_config.hidden_size", 1024, "vision_config: hidden_size=1024"),
    ],
)
def test_config_of_a_pair_that_contradicts_the_tensors_is_refused(key, value, message, pair, edit_json, refusal):
    edit_json(pair, {key: value})
    assert message in refusal(read_published, pair)


def test_missing_values_are_the_defaults_of_transformers(foreign, pair, refusal):
    assert VISION_DEFAULTS.items() <= Aimv2VisionConfig().to_dict().items()
    assert TEXT_DEFAULTS.items() <= Aimv2TextConfig().to_dict().items()
    assert PAIR_DEFAULTS.items() <= Aimv2Config().to_dict().items()
    values = json.loads((foreign / "config.json").read_text())
    del values["num_attention_heads"]
    (foreign / "config.json").write_text(json.dumps(values))
    assert read_published(foreign).config.encoder.num_heads == 8
    (foreign / "config.json").write_text("{}")
    assert "hidden_size=1024" in refusal(read_published, foreign)
    values = json.loads((pair / "config.json").read_text())
    del values["text_config"]["eos_token_id"]
    (pair / "config.json").write_text(json.dumps(values))
    assert "end_id=49407" in refusal(read_published, pair)


@pytest.mark.parametrize(("image_size", "image_px"), [(84, 84), (97, 84), (10**9, 224), ("any", 224), (None, 224)])
def test_image_size_of_a_native_model_is_not_checked(image_size, image_px, make, edit_json, tmp_path):
    make["transformers"](tmp_path / "native", 32, 1, 1, is_native=True)
    edit_json(tmp_path / "native", {"image_size": image_size})
    config = read_published(tmp_path / "native").config
    assert (config.image_px, config.encoder.positions) == (image_px, "sincos")


def test_pair_without_config_is_refused(pair, refusal):
    (pair / "config.json").unlink()
    assert "needs a config.json" in refusal(read_published, pair)


def test_pair_with_a_negative_logit_scale_is_refused(make_pair, refusal, tmp_path):
    make_pair(tmp_path / "pair", log_scale=-1.0)
    assert "logit_scale=-1 is below 0" in refusal(read_published, tmp_path / "pair")


@torch.no_grad()
def test_file_of_apple_without_config_is_read_if_heads_are_128_wide(make, tmp_path):
    foreign = make["ml-aim"](tmp_path / "foreign", 256, 2, 1)
    write_weights(read_published(tmp_path / "foreign"), tmp_path / "ours")
    image = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(load_encoder(tmp_path / "ours")(image), foreign(image), rtol=1e-4, atol=1e-4)


def test_heads_of_another_width_need_a_config(make, refusal, tmp_path):
    make["ml-aim"](tmp_path / "foreign", 32, 4, 1)
    assert "multiple of 128" in refusal(read_published, tmp_path / "foreign")
    (tmp_path / "foreign/config.json").write_text('{"num_attention_heads": 4}')
    assert read_published(tmp_path / "foreign").config.encoder.num_heads == 4


@pytest.mark.parametrize("model_type", ["aimv2", "aimv2_vision_model"])
def test_config_of_ml_aim_may_be_from_apple_or_transformers(model_type, foreign_ml_aim, refusal):
    config = foreign_ml_aim / "config.json"
    config.write_text(json.dumps({"model_type": model_type}))
    assert read_published(foreign_ml_aim).config.encoder.width == 128
    config.write_text('{"model_type": "vit"}')
    assert "model_type='vit' must be 'aimv2' or 'aimv2_vision_model'" in refusal(read_published, foreign_ml_aim)


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 1024), ("rms_norm_eps", 1e-6), ("is_native", True)])
def test_config_of_ml_aim_must_agree_with_the_tensors(key, value, foreign_ml_aim, refusal):
    (foreign_ml_aim / "config.json").write_text(json.dumps({key: value}))
    assert key in refusal(read_published, foreign_ml_aim)
