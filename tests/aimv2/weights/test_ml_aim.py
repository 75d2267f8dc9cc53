"""Apple's layout, with and without a config.json."""

import json

import pytest
import torch
from safetensors.torch import load_file

from aimv2.weights import load_encoder, read_published, write_weights


@torch.no_grad()
def test_file_without_config_is_read_if_heads_are_128_wide(make, tmp_path):
    foreign = make["ml-aim"](tmp_path / "foreign", 256, 2, 1)
    path = tmp_path / "aimv2.pth"
    torch.save(load_file(tmp_path / "foreign/model.safetensors"), path)
    write_weights(read_published(path), tmp_path / "ours")
    image = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(load_encoder(tmp_path / "ours")(image), foreign(image), rtol=1e-4, atol=1e-4)


def test_heads_of_another_width_need_a_config(make, refusal, tmp_path):
    make["ml-aim"](tmp_path / "foreign", 32, 4, 1)
    assert "multiple of 128" in refusal(read_published, tmp_path / "foreign")
    (tmp_path / "foreign/config.json").write_text('{"num_attention_heads": 4}')
    assert read_published(tmp_path / "foreign").config.encoder.num_heads == 4


@pytest.mark.parametrize("model_type", ["aimv2", "aimv2_vision_model"])
def test_config_may_be_from_apple_or_transformers(model_type, foreign_ml_aim, refusal):
    config = foreign_ml_aim / "config.json"
    config.write_text(json.dumps({"model_type": model_type}))
    assert read_published(foreign_ml_aim).config.encoder.width == 128
    config.write_text('{"model_type": "vit"}')
    assert "model_type='vit' must be 'aimv2' or 'aimv2_vision_model'" in refusal(read_published, foreign_ml_aim)


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 1024), ("rms_norm_eps", 1e-6), ("is_native", True)])
def test_config_must_agree_with_the_tensors(key, value, foreign_ml_aim, refusal):
    (foreign_ml_aim / "config.json").write_text(json.dumps({key: value}))
    assert key in refusal(read_published, foreign_ml_aim)
