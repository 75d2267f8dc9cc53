from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aimv2.base.errors import UsageError
from aimv2.config.training_config import ObjectiveConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.objectives.build import build
from aimv2.tools.evaluate.models import load_model
from aimv2.tools.weights import read_published, write_weights
from tests.helpers.finished_runs import finished_run


def image(px, seed=0):
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(seed))


def test_a_public_checkpoint_is_that_of_transformers_in_any_of_its_forms(public, tmp_path):
    folder, theirs = public
    write_weights(read_published(folder), tmp_path / "imported")
    models = [load_model(path) for path in (folder, folder / "model.safetensors", tmp_path / "imported")]
    with torch.no_grad():
        expected = theirs(pixel_values=image(28)).last_hidden_state
        for model in models:
            torch.testing.assert_close(model.encoder(image(28)), expected, atol=1e-5, rtol=1e-4)
    # Only the file without its folder's config.json has the published width of heads in place of the stated one.
    assert models[0].digest == models[2].digest
    assert (models[0].name, models[2].name) == ("aimv2-tiny", "imported")
    assert (models[0].pair, models[0].tokenizer) == (None, None)


def test_other_weights_have_another_digest(public, tmp_path):
    tensors = load_file(public[0] / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1e-6
    (tmp_path / "config.json").write_text((public[0] / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_model(tmp_path).digest != load_model(public[0]).digest


def test_positions_are_resampled_only_when_asked(public):
    model = load_model(public[0], image_px=56)
    assert model.config.image_px == 56
    assert model.encoder(image(56)).shape == (2, 16, 32)
    assert load_model(public[0]).encoder.pos_embed.shape[1] == 4
    with pytest.raises(UsageError, match="image_px=30 must be a multiple of patch_px=14"):
        load_model(public[0], image_px=30)


@pytest.mark.parametrize("objective", ["aimv2", "clip", "siglip"])
def test_a_finished_run_is_the_trained_network(objective, tiny, tmp_path):
    encoder = replace(tiny.model.encoder, attention="prefix" if objective == "aimv2" else "bidirectional")
    model = replace(tiny.model, encoder=encoder)
    config = replace(tiny, objective=ObjectiveConfig(name=objective), model=model)
    network = build(config).eval()
    tokenizer = CaptionTokenizer.train(["a red heart"], 300)
    run = finished_run(tmp_path, config, network, tokenizer=tokenizer)
    found = load_model(run.path)
    with torch.no_grad():
        torch.testing.assert_close(found.encoder(image(16)), network.encoder(image(16)))
        if objective == "aimv2":
            assert found.pair is None
            return
        assert found.tokenizer.to_json() == tokenizer.to_json()
        token_BT = torch.from_numpy(tokenizer.encode(["a red heart", "heart"], 12))
        length_B = torch.from_numpy(tokenizer.lengths(token_BT.numpy()))
        torch.testing.assert_close(found.pair.embed_images(image(16)), network.embed_images(image(16)))
        torch.testing.assert_close(found.pair.embed_texts(token_BT, length_B), network.embed_texts(token_BT, length_B))
        larger = load_model(run.path, image_px=32)
        assert larger.pair.embed_images(image(32)).shape == network.embed_images(image(16)).shape
        assert larger.digest != found.digest


def test_what_is_no_weights_is_refused(tmp_path, digits):
    with pytest.raises(UsageError, match=r"weights='.*absent': there is no such file or folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(UsageError, match="has no weights"):
        load_model(digits.parent)


@pytest.mark.parametrize(
    ("objective", "message"), [("clip", "are not those of an AIMv2 encoder"), ("siglip", "are not those of the run's")]
)
def test_a_run_whose_text_encoder_is_broken_is_refused(objective, message, tiny, tmp_path):
    config = replace(tiny, objective=ObjectiveConfig(name=objective))
    network = build(config)
    folder = finished_run(tmp_path / "runs", config, network).path
    state = network.state_dict()
    del state["text_tower.norm.weight"]
    save_file(state, next(folder.rglob("weights.safetensors")))
    with pytest.raises(UsageError, match=rf"(?s){message}.*text_tower\.norm\.weight"):
        load_model(folder)


def test_a_pair_without_its_tokenizer_reads_no_texts(public_pair, tmp_path):
    folder, _ = public_pair
    write_weights(read_published(folder), tmp_path / "imported")
    model = load_model(tmp_path / "imported")
    assert model.pair is not None
    assert model.tokenizer is None
    assert load_model(tmp_path / "imported", tokenizer=folder / "tokenizer.json").tokenizer is not None


def test_a_long_text_is_cut_and_ends(public_pair):
    tokenizer = load_model(public_pair[0]).tokenizer
    token_BT = tokenizer.encode(["xyz " * 30, "one"], 16)
    length_B = tokenizer.lengths(token_BT)
    assert token_BT.shape == (2, 16)
    assert length_B[0] == 16
    assert (token_BT[np.arange(2), length_B - 1] == 1).all()
    assert token_BT[1, 0] == 0  # the start that the tokenizer's file adds


def test_a_tokenizer_of_our_runs_is_used_as_in_training(public_pair, tmp_path):
    tokenizer = CaptionTokenizer.train(["a red heart"], 260)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    found = load_model(public_pair[0], tokenizer=tmp_path / "tokenizer.json").tokenizer
    texts = ["  A red\nheart", "red"]
    assert found.encode(texts, 6).tolist() == tokenizer.encode(texts, 6).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is not the tokenizer of these weights"), ("{}", r"is not a readable tokenizer\.json")],
)
def test_a_tokenizer_of_other_weights_or_none_is_refused(content, message, public_pair, tmp_path):
    words = "a red heart and a blue star with some green leaves on yellow paper by an unknown painter"
    content = content or CaptionTokenizer.train([words], 400).to_json()
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        load_model(public_pair[0], tokenizer=tmp_path / "tokenizer.json")
