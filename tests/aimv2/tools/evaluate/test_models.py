from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aimv2.base.errors import UsageError
from aimv2.config.run_config import ObjectiveConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.model.network import build
from aimv2.tools.evaluate.models import Texts, load_model
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
    assert models[0].pair is None
    assert "no text encoder" in models[0].no_texts


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
        token_BT, length_B = map(torch.from_numpy, found.texts.encode(["a red heart", "heart"]))
        assert token_BT.tolist() == tokenizer.encode(["a red heart", "heart"], 12).tolist()
        assert length_B.tolist() == tokenizer.lengths(token_BT.numpy()).tolist()
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


def test_a_pair_without_its_tokenizer_has_no_texts(public_pair, tmp_path):
    folder, _ = public_pair
    write_weights(read_published(folder), tmp_path / "imported")
    model = load_model(tmp_path / "imported")
    assert model.texts is None
    assert "give tokenizer=PATH" in model.no_texts
    assert load_model(tmp_path / "imported", tokenizer=folder / "tokenizer.json").texts is not None


def test_a_long_text_is_cut_and_ends(public_pair):
    model = load_model(public_pair[0])
    token_BT, length_B = model.texts.encode(["xyz " * 30, "one"])
    assert token_BT.shape == (2, 16)
    assert length_B[0] == 16
    assert (token_BT[np.arange(2), length_B - 1] == 1).all()
    assert token_BT[1, 0] == 0  # the start that the tokenizer's file adds


def test_a_tokenizer_of_our_runs_is_used_as_in_training(tmp_path):
    tokenizer = CaptionTokenizer.train(["a red heart"], 300)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    texts = Texts(tmp_path / "tokenizer.json", max_tokens=6, end_id=1, vocab_size=400)
    token_BT, length_B = texts.encode(["  A red\nheart", "red"])
    assert token_BT.tolist() == tokenizer.encode(["  A red\nheart", "red"], 6).tolist()
    assert length_B.tolist() == tokenizer.lengths(token_BT).tolist()


@pytest.mark.parametrize(
    ("content", "end_id", "vocab_size", "message"),
    [
        (None, 1, 100, "is not the tokenizer of these weights"),
        (None, 5000, 400, "is not the tokenizer of these weights"),
        ("{}", 1, 400, r"is not a readable tokenizer\.json"),
    ],
)
def test_a_tokenizer_of_other_weights_or_none_is_refused(content, end_id, vocab_size, message, tmp_path):
    content = content or CaptionTokenizer.train(["a red heart"], 300).to_json()
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        Texts(tmp_path / "tokenizer.json", max_tokens=6, end_id=end_id, vocab_size=vocab_size)
