"""Networks that start from given weights."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.model.positions import reading_order
from aimv2.objectives.build import build, content_of_start, start_network
from aimv2.request.origin import with_start
from aimv2.request.resolve import resolve
from aimv2.run.execute import execute
from aimv2.runs.record import RunFolder
from aimv2.tools.weights import read_weights, write_weights
from tests.helpers.finished_runs import finished_run
from tests.helpers.training import run as trained


@pytest.fixture(scope="module")
def source(tiny):
    """Another seed than that of the runs that start from it, so that a tensor that was not taken is seen."""
    return replace(tiny, seed=7)


@pytest.fixture(scope="module")
def finished(source, pairs, tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("runs"), source, build(source), tokenizer=pairs.tokenizer)


def started(config, path, pairs, **values):
    config = with_start(replaced(config, {"start.weights": str(path), **values}))
    return start_network(build(config), config, pairs.tokenizer).state_dict()


def assert_equal(one, other, names):
    assert names
    assert all(torch.equal(one[name], other[name]) for name in names)


def test_all_parts_start_from_the_weights_of_the_same_objective(tiny, source, finished, pairs):
    expected = build(source).state_dict()
    assert_equal(started(tiny, finished.path, pairs), expected, expected)


def test_parts_that_the_weights_lack_are_random(tiny, source, finished, pairs):
    clip = {"objective": {"name": "clip"}, "model.encoder.attention": "bidirectional"}
    state = started(tiny, finished.path, pairs, **clip)
    given, random = build(source).state_dict(), build(replaced(tiny, clip)).state_dict()
    encoder = [name for name in state if name.startswith("encoder.")]
    assert_equal(state, given, encoder)
    assert_equal(state, random, state.keys() - set(encoder))


def test_an_imported_folder_gives_its_encoder(tiny, source, finished, pairs, tmp_path):
    write_weights(read_weights(finished.path), tmp_path / "imported")
    state = started(tiny, tmp_path / "imported", pairs)
    encoder = [name for name in state if name.startswith("encoder.")]
    assert_equal(state, build(source).state_dict(), encoder)
    assert_equal(state, build(tiny).state_dict(), state.keys() - set(encoder))


def test_learned_positions_are_resampled_as_pillow_resizes_or_left_out(tiny, source, finished, pairs):
    """Oracle: Pillow's bicubic filter, which is torch's with antialiasing."""
    larger = {"model.image_px": 24}
    state = started(tiny, finished.path, pairs, **larger)
    table_44D = build(source).state_dict()["encoder.pos_embed"].reshape(4, 4, -1).numpy()
    expected = [
        np.asarray(Image.fromarray(table_44D[:, :, channel]).resize((6, 6), Image.Resampling.BICUBIC))
        for channel in range(table_44D.shape[-1])
    ]
    assert state["encoder.pos_embed"].shape == (1, 36, 32)
    np.testing.assert_allclose(state["encoder.pos_embed"][0].reshape(6, 6, -1), np.stack(expected, -1), atol=1e-6)
    computed = started(tiny, finished.path, pairs, **{"model.encoder.positions": "sincos"})
    assert "encoder.pos_embed" not in computed


def test_positions_of_the_decoder_are_resampled_in_their_place(tiny, pairs, tmp_path):
    """A linear function of row and column stays one, if the table is put in raster order first."""
    order = {"model.patch_order": "spiral", "model.decoder.image_positions": True, "data.render_px": 32}
    source = replaced(tiny, order)
    network = build(source)
    row, column = (torch.arange(16) // 4).float(), (torch.arange(16) % 4).float()
    plane = (10 * row + column)[list(reading_order("spiral", 4))]
    network.decoder.image_pos_embed.data = plane[:, None].expand(-1, 32).clone()
    run = finished_run(tmp_path, source, network, tokenizer=pairs.tokenizer)
    found = started(tiny, run.path, pairs, **order, **{"model.image_px": 32})["decoder.image_pos_embed"][:, 0]
    raster = torch.empty(64)
    raster[list(reading_order("spiral", 8))] = found
    inner = raster.reshape(8, 8)[3:5, 3:5]  # far from the borders, where the filter is cut
    torch.testing.assert_close(inner, torch.tensor([[13.75, 14.25], [18.75, 19.25]]))


def test_text_parts_need_their_tokenizer(tiny, finished, pairs):
    other = CaptionTokenizer.train(["something else"], 300)
    config = with_start(replaced(tiny, {"start.weights": str(finished.path)}))
    with pytest.raises(UsageError, match=r"another tokenizer; type data.tokenizer=.*tokenizer.json"):
        start_network(build(config), config, other)
    clip = replaced(config, {"objective": {"name": "clip"}})
    start_network(build(clip), clip, other)  # its text tower is random


def test_broken_tensors_are_refused(tiny, source, pairs, tmp_path):
    run = finished_run(tmp_path, source, build(source), tokenizer=pairs.tokenizer)
    file, state = run.file("weights.safetensors"), build(source).state_dict()
    for name, value, message in (
        ("encoder.norm.weight", torch.full((32,), torch.nan), r"not finite in 1 tensor \('encoder.norm.weight'\)"),
        ("encoder.norm.weight", torch.ones(31), r"encoder.norm.weight is \[31\], but the run's network has \[32\]"),
        ("encoder.norm.weight", None, "has no encoder.norm.weight, which the run's network has"),
    ):
        changed = {**state, name: value}
        save_file({name: value for name, value in changed.items() if value is not None}, file)
        with pytest.raises(UsageError, match=message):
            started(tiny, run.path, pairs)
    file.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        started(tiny, run.path, pairs)


def test_a_frozen_encoder_keeps_its_weights_and_has_no_moments(tiny, pairs, with_samples):
    config = replaced(with_samples(tiny, 16), {"start.frozen": ["encoder"], "optimizer.weight_decay": 0.1})
    model, _, _ = trained(config, pairs)
    state, before = model.state_dict(), build(config).state_dict()
    encoder = [name for name in state if name.startswith("encoder.")]
    assert_equal(state, before, encoder)
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    changed = [name for name in state.keys() - set(encoder) if not torch.equal(state[name], before[name])]
    assert len(changed) > 5


def test_a_run_starts_from_a_finished_one_and_says_so(tiny, finished, tmp_path):
    values = {"start.weights": str(finished.path), "data.tokenizer": str(finished.file("tokenizer.json"))}
    config = resolve(replaced(tiny, {**values, "budget.samples": 0, "model.image_px": 24}))
    run = RunFolder(tmp_path, config.name)
    assert execute(run.acquire(config), config, evaluate=lambda *data: {}) is None
    weights = load_file(run.file("weights.safetensors"))
    given = load_file(finished.file("weights.safetensors"))
    assert_equal(weights, given, weights.keys() - {"encoder.pos_embed"})
    recorded = json.loads(run.file("manifest.json").read_text())["start"]
    assert recorded == content_of_start(config) | {
        "weights": finished.name,
        "sha256": hashlib.sha256(finished.file("weights.safetensors").read_bytes()).hexdigest(),
        "parts": ["decoder", "encoder"],
    }
    assert content_of_start(tiny) is None
