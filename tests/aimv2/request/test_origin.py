"""Where a run starts: from a finished run, or from a folder of imported weights."""

import json
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import differences, replaced
from aimv2.objectives.build import build
from aimv2.request.compose import compose, run_config
from aimv2.request.origin import continued, read_origin, with_start
from aimv2.request.resolve import resolve
from aimv2.runs.record import RunFolder
from aimv2.tools.weights import load_encoder, read_weights, write_weights
from tests.helpers.finished_runs import finished_run


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("runs"), tiny, build(tiny))


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A folder as ``weights import`` writes it."""
    path = tmp_path_factory.mktemp("weights") / "imported"
    weights = read_weights(finished.path)
    write_weights(weights, path)
    return path


def starting(config, path, **values):
    return replaced(config, {"start.weights": str(path), **values})


def test_a_run_counts_by_its_name_and_a_folder_by_its_content(tiny, finished, folder, tmp_path):
    from_run, from_folder = (with_start(starting(tiny, path)) for path in (finished.path, folder))
    assert from_run.start.fingerprint == finished.name == tiny.name
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert with_start(starting(tiny, copy)).name == from_folder.name != from_run.name
    tensors = bytearray((copy / "weights.safetensors").read_bytes())
    tensors[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(tensors)
    assert with_start(starting(tiny, copy)).name != from_folder.name


def test_a_run_without_given_weights_keeps_its_name(tiny):
    assert with_start(tiny) is tiny
    assert resolve(tiny).name == replace(tiny, data=resolve(tiny).data, augment=resolve(tiny).augment).name


def test_paths_are_absolute_after_resolution(tiny, finished, monkeypatch):
    monkeypatch.chdir(finished.path.parent)
    config = resolve(starting(tiny, finished.name))
    assert config.start.weights == str(finished.path)
    assert config.name != resolve(tiny).name


def test_the_run_before_training_starts_from_the_same_weights(tiny, finished):
    config = with_start(starting(tiny, finished.path, **{"start.frozen": ["encoder"]}))
    before = config.untrained()
    assert before.start == replace(config.start, frozen=())
    assert before.name != tiny.untrained().name


def composed(*words):
    return run_config(compose(words, defaults={}))


def test_a_command_line_takes_the_config_of_the_finished_run(tiny, finished):
    config = composed(f"start.weights={finished.path}", "budget.samples=32", "model.image_px=24")
    assert differences(config, tiny) == {
        "budget.samples": 32,
        "model.image_px": 24,
        "start.weights": str(finished.path),
        "data.tokenizer": str(finished.file("tokenizer.json")),
        "device": "auto",
    }
    assert with_start(config).start.fingerprint == finished.name


def test_the_frozen_parts_and_the_start_of_that_run_do_not_pass_on(tiny, finished, tmp_path):
    second = with_start(starting(tiny, finished.path, **{"start.frozen": ["encoder"]}))
    run = finished_run(tmp_path, second, build(second))
    start = continued(read_origin(str(run.path))).start
    assert (start.weights, start.frozen, start.fingerprint) == (str(run.path), (), "")


def test_a_command_line_puts_an_imported_encoder_into_a_scale(tiny, folder):
    config = composed(f"start.weights={folder}", "scale=tiny")
    assert (config.scale, config.model.encoder.width, config.model.image_px) == ("tiny", 32, 16)
    assert config.model.encoder.attention == "auto"
    assert len(with_start(config).start.fingerprint) == 12
    assert load_encoder(folder).grid == config.model.grid


def test_a_scale_beside_a_finished_run_is_refused(finished):
    with pytest.raises(UsageError, match="scale=demo has no effect: a run that starts from a finished one"):
        composed(f"start.weights={finished.path}", "scale=demo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.encoder.depth": 1}, "model.encoder.depth=1, but the weights of start.weights have 2"),
        ({"model.encoder.num_heads": 4}, "model.encoder.num_heads=4"),
        ({"model.encoder.ffn": "gelu"}, "model.encoder.ffn='gelu', but the weights of start.weights have 'swiglu'"),
        ({"model.patch_px": 8}, "model.patch_px=8, but"),
        ({"model.patch_order": "spiral"}, "model.patch_order='spiral'"),
        ({"model.decoder.depth": 2}, "model.decoder.depth=2"),
        ({"model.decoder.num_heads": 4}, "model.decoder.num_heads=4"),
        ({"model.vocab_size": 600}, "model.vocab_size=600, but the weights of start.weights have 512"),
    ],
    ids=str,
)
def test_weights_of_other_sizes_are_refused(tiny, finished, changes, message):
    with pytest.raises(UsageError, match=message):
        with_start(starting(tiny, finished.path, **changes))


def test_what_the_run_does_not_share_may_differ(tiny, finished, folder):
    other = {"model.decoder.depth": 2, "model.vocab_size": 600}
    larger = {"model.encoder.positions": "sincos", "model.image_px": 24}
    assert with_start(starting(tiny, folder, **other)).start.fingerprint == read_origin(str(folder)).fingerprint
    for changes in (other | {"objective": {"name": "clip"}}, larger):
        assert with_start(starting(tiny, finished.path, **changes)).start.fingerprint == finished.name


def test_text_towers_must_be_equal(tiny, tmp_path):
    clip = replaced(tiny, {"objective": {"name": "clip"}, "model.encoder.attention": "bidirectional"})
    run = finished_run(tmp_path, clip, build(clip))
    with_start(starting(clip, run.path))
    with pytest.raises(UsageError, match=r"the text tower is .*depth=3.* but in the weights of start.weights"):
        with_start(starting(clip, run.path, **{"model.text_tower.depth": 3}))


def test_what_is_no_finished_run_and_no_folder_of_weights_is_refused(tiny, folder, tmp_path):
    with pytest.raises(UsageError, match="'nowhere' is neither the folder of a run nor one of: weights import"):
        read_origin("nowhere")
    running = RunFolder(tmp_path, tiny.name)
    with running.acquire(tiny), pytest.raises(UsageError, match=f"run {running.name} is not finished"):
        read_origin(str(running.path))
    broken = tmp_path / "broken"
    broken.mkdir()
    values = json.loads((folder / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="is not complete"):
        read_origin(str(broken))
    (broken / "weights.safetensors").touch()
    (broken / "config.json").write_text(json.dumps(values | {"encoder": {"width": 3}}))
    with pytest.raises(UsageError, match="encoder: "):
        read_origin(str(broken))


def test_a_config_that_was_recorded_before_there_were_given_weights_is_read(tiny, tmp_path):
    run = finished_run(tmp_path, tiny, build(tiny))
    values = tiny.to_dict()
    del values["start"]
    (run.path / "config.json").write_text(json.dumps(values))
    assert read_origin(str(run.path)).fingerprint == run.name
