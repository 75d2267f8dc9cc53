"""Folders in our layout and finished runs: loading and export."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import Aimv2Model

from aimv2.config.model_config import DecoderConfig
from aimv2.config.training_config import ObjectiveConfig
from aimv2.runs.record import RunFolder
from aimv2.tools.weights import (
    load_dual_encoder,
    load_encoder,
    read_published,
    read_weights,
    write_published,
    write_weights,
)


@pytest.fixture
def ours(foreign, tmp_path):
    """A folder under our names: width 128, one head, one block."""
    write_weights(read_published(foreign), tmp_path / "ours")
    return tmp_path / "ours"


def test_layout_of_the_config_is_pinned(ours):
    """Users' folders depend on it. If it must change, raise layout_version and read the old layout too."""
    source = {
        "layout": "transformers",
        "file": "model.safetensors",
        "dtypes": ["float32"],
        "resampled_from_px": None,
    }
    encoder = {
        "width": 128,
        "depth": 1,
        "num_heads": 1,
        "norm": "rms",
        "ffn": "swiglu",
        "attention": "auto",
        "positions": "learned",
    }
    assert json.loads((ours / "config.json").read_text()) == {
        "layout_version": 1,
        "source": source,
        "image_px": 56,
        "patch_px": 14,
        "patch_order": "raster",
        "encoder": encoder,
        "text_tower": None,
    }


def test_another_ffn_is_written_and_read(ours, tmp_path):
    weights = read_weights(ours)
    encoder = replace(weights.config.encoder, ffn_multiple=32)  # 352 at width 128, where 256 gives 512
    tensors = {
        name: value[:704]
        if name.endswith("ffn.gate_up.weight")
        else value[:, :352].contiguous()
        if "ffn.down" in name
        else value
        for name, value in weights.tensors.items()
    }
    other = weights._replace(config=replace(weights.config, encoder=encoder), tensors=tensors)
    write_weights(other, tmp_path / "other")
    assert json.loads((tmp_path / "other/config.json").read_text())["encoder"]["ffn_multiple"] == 32
    assert read_weights(tmp_path / "other").config == other.config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layout_version", 2, "layout_version"),
        ("image_px", 70, "image_px=70, but with these tensors it must be 56"),
        ("image_px", 10**12 * 14, "image_px: Input should be less than or equal to 8192 (got 14000000000000)"),
        ("encoder.width", 256, "encoder.width=256, but with these tensors it must be 128"),
        ("encoder.width", 10**12, "encoder: width: Input should be less than or equal to 65536 (got 1000000000000)"),
        ("encoder.depth", 2, "encoder.depth=2, but with these tensors it must be 1"),
        ("encoder.depth", 10**9, "encoder: depth: Input should be less than or equal to 1024 (got 1000000000)"),
        ("encoder.positions", "sincos", "encoder.positions='sincos', but with these tensors it must be 'learned'"),
        ("encoder.norm", "layer", "missing ('encoder.patch_norm.bias'"),
        ("encoder.ffn", "gelu", "missing"),
    ],
)
def test_folder_of_ours_with_a_wrong_config_is_refused(key, value, message, ours, edit_json, refusal):
    edit_json(ours, {key: value})
    assert message in refusal(read_weights, ours)


def test_other_folders_are_refused(foreign, refusal, tmp_path):
    assert "weights import" in refusal(read_weights, foreign)
    assert "is neither the folder of a run nor one of: weights import" in refusal(read_weights, tmp_path)


def test_import_of_a_run_refers_to_export(initialised_run, tiny, refusal, tmp_path):
    folder, _ = initialised_run(tmp_path / "runs", tiny)
    assert "is the folder of a run; use: weights export" in refusal(read_published, folder)
    for weights in (folder / "attempts/0001", folder / "attempts/0001/weights.safetensors"):
        assert "use weights export with its folder, or its run's" in refusal(read_published, weights)


def test_loaded_encoder_is_in_eval_mode_and_trainable(ours):
    encoder = load_encoder(str(ours))
    assert not encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    before = encoder.norm.weight.clone()
    (ours / "weights.safetensors").write_bytes(bytes((ours / "weights.safetensors").stat().st_size))
    assert torch.equal(encoder.norm.weight, before), "the network is still in the file"


def test_dual_encoder_needs_a_text_tower(ours, refusal):
    assert "no text tower" in refusal(load_dual_encoder, ours)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["transformers", "ml-aim"])
def test_encoder_of_a_finished_run_is_exported(layout, initialised_run, tiny, images, load, tmp_path):
    folder, network = initialised_run(tmp_path / "runs", tiny)
    expected = network.encoder(images)
    assert torch.equal(load_encoder(folder)(images), expected)
    run = read_weights(folder)
    assert run.omitted == "decoder"
    write_published(run, tmp_path / "there", layout)
    torch.testing.assert_close(load[layout](tmp_path / "there")(images), expected)
    write_weights(read_published(tmp_path / "there"), tmp_path / "ours")
    assert torch.equal(load_encoder(tmp_path / "ours")(images), expected)


def clip(tiny, name="clip", **decoder):
    model = replace(tiny.model, decoder=DecoderConfig(width=32, depth=1, num_heads=2, **decoder))
    return replace(tiny, model=model, objective=ObjectiveConfig(name=name))


@torch.no_grad()
def test_run_of_clip_is_exported_with_both_towers(initialised_run, tiny, assert_same_pair, tmp_path):
    folder, network = initialised_run(tmp_path / "runs", clip(tiny))
    write_published(read_weights(folder), tmp_path / "there")
    theirs = Aimv2Model.from_pretrained(tmp_path / "there").eval()
    write_weights(read_published(tmp_path / "there"), tmp_path / "ours")
    sizes = {"end_id": 1, "num_tokens": 12, "vocab_size": tiny.model.vocab_size, "image_px": 16, "padding": 1}
    for ours in (network, load_dual_encoder(folder), load_dual_encoder(tmp_path / "ours")):
        assert_same_pair(ours, theirs, **sizes)


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"name": "siglip"}, "a bias of the similarity"),
        ({"norm": "layer"}, "a text tower with the decoder's norm and ffn"),
        ({"ffn": "gelu"}, "a text tower with the decoder's norm and ffn"),
    ],
)
def test_pair_that_no_layout_has_exports_its_encoder(
    config, reason, initialised_run, tiny, images, load, refusal, tmp_path
):
    folder, network = initialised_run(tmp_path / "runs", clip(tiny, **config))
    run = read_weights(folder)
    assert run.omitted == f"image_head, similarity, text_tower: no layout has {reason}"
    assert reason in refusal(load_dual_encoder, folder)
    write_published(run, tmp_path / "there")
    torch.testing.assert_close(load["transformers"](tmp_path / "there")(images), network.encoder(images))


@torch.no_grad()
@pytest.mark.parametrize("layout", ["transformers", "ml-aim"])
@pytest.mark.parametrize(
    ("encoder", "model", "reason"),
    [
        ({"norm": "layer"}, {}, "norm='layer' in place of 'rms'"),
        ({"ffn": "gelu"}, {}, "ffn='gelu' in place of 'swiglu'"),
        ({}, {"patch_order": "spiral"}, "patch_order='spiral' in place of 'raster'"),
    ],
)
def test_encoder_that_no_layout_has_is_loaded_but_not_exported(
    encoder, model, reason, layout, initialised_run, tiny, images, refusal, tmp_path
):
    config = replace(tiny, model=replace(tiny.model, encoder=replace(tiny.model.encoder, **encoder), **model))
    folder, network = initialised_run(tmp_path / "runs", config)
    assert torch.equal(load_encoder(folder)(images), network.encoder(images))
    message = refusal(write_published, read_weights(folder), tmp_path / "there", layout)
    assert reason in message
    assert f"layout={layout}" in message
    assert not (tmp_path / "there").exists()


@torch.no_grad()
def test_run_with_sincos_positions_becomes_a_native_model(initialised_run, tiny, images, load, tmp_path):
    encoder = replace(tiny.model.encoder, positions="sincos")
    folder, network = initialised_run(tmp_path / "runs", replace(tiny, model=replace(tiny.model, encoder=encoder)))
    write_published(read_weights(folder), tmp_path / "there")
    assert json.loads((tmp_path / "there/config.json").read_text())["is_native"] is True
    torch.testing.assert_close(load["transformers"](tmp_path / "there")(images), network.encoder(images))


def test_unfinished_or_incomplete_run_is_refused(initialised_run, tiny, edit_json, refusal, tmp_path):
    unfinished = RunFolder(tmp_path / "runs", tiny.name)
    with unfinished.acquire(tiny):
        pass
    assert "is not finished" in refusal(read_weights, unfinished.path)
    folder, network = initialised_run(tmp_path / "done", tiny)
    weights = next(folder.rglob("weights.safetensors"))
    state = network.state_dict()
    del state["encoder.norm.weight"]
    save_file(state, weights)
    assert "1 missing ('encoder.norm.weight')" in refusal(read_weights, folder)
    edit_json(folder, {"model.encoder.depth": 3})
    assert "encoder.depth=3, but with these tensors it must be 2" in refusal(read_weights, folder)
    weights.unlink()
    assert "weights.safetensors" in refusal(read_weights, folder)
    edit_json(folder, {"seed": -1})
    assert "seed" in refusal(read_weights, folder)
