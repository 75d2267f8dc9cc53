"""Features of images and texts, by the networks that are loaded, against transformers and Pillow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.program import replaced
from aimv2.config.training_config import ObjectiveConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import IMAGENET, Colours
from aimv2.datasets.description import Filter, Location
from aimv2.datasets.labelled import Shape
from aimv2.evaluation.features import encode
from aimv2.objectives.build import build
from aimv2.tools.features import Split, check_room, load_model, saved
from aimv2.tools.weights import Preprocessing, read_published, write_weights
from tests.helpers.finished_runs import finished_run
from tests.helpers.memory_records import MemoryRecords, png, random_pictures
from tests.helpers.public_encoders import network_inputs


def image(px, seed=0):
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(seed))


def test_a_public_checkpoint_is_that_of_transformers_in_any_of_its_forms(public, tmp_path):
    folder, theirs = public
    write_weights(read_published(folder), tmp_path / "imported")
    models = [load_model(path) for path in (folder, folder / "model.safetensors", tmp_path / "imported")]
    with torch.no_grad():
        expected = theirs(pixel_values=image(28)).last_hidden_state
        for model in models:
            torch.testing.assert_close(model.network.encoder(image(28)), expected, atol=1e-5, rtol=1e-4)
    assert models[0].digest == models[1].digest == models[2].digest
    assert (models[0].name, models[2].name) == ("aimv2-tiny", "imported")
    assert (models[0].pair, models[0].tokenizer) == (None, None)


def test_other_weights_have_another_digest(public, tmp_path):
    tensors = load_file(public[0] / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1e-6
    (tmp_path / "config.json").write_text((public[0] / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_model(tmp_path).digest != load_model(public[0]).digest


@pytest.mark.parametrize("objective", ["aimv2", "clip", "siglip"])
def test_a_finished_run_is_the_trained_network(objective, tiny, tmp_path):
    attention = "prefix" if objective == "aimv2" else "bidirectional"
    config = replaced(tiny, {"objective.name": objective, "model.encoder.attention": attention})
    network = build(config).eval()
    tokenizer = CaptionTokenizer.train(["a red heart"], 300)
    run = finished_run(tmp_path, config, network, tokenizer=tokenizer)
    found = load_model(run.path)
    with torch.no_grad():
        torch.testing.assert_close(found.network.encoder(image(16)), network.encoder(image(16)))
        if objective == "aimv2":
            assert found.pair is None
            return
        assert found.tokenizer.to_json() == tokenizer.to_json()
        token_BT = torch.from_numpy(tokenizer.encode(["a red heart", "heart"], 12))
        length_B = torch.from_numpy(tokenizer.lengths(token_BT.numpy()))
        torch.testing.assert_close(found.pair.embed_images(image(16)), network.embed_images(image(16)))
        torch.testing.assert_close(found.pair.embed_texts(token_BT, length_B), network.embed_texts(token_BT, length_B))


def test_what_is_no_weights_is_refused(tmp_path, digits):
    with pytest.raises(UsageError, match=r"weights='.*absent': there is no such file or folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(UsageError, match="has no weights"):
        load_model(digits.parent)


def test_a_run_whose_text_encoder_is_broken_is_refused(tiny, tmp_path):
    config = replace(tiny, objective=ObjectiveConfig(name="clip"))
    network = build(config)
    folder = finished_run(tmp_path / "runs", config, network).path
    state = network.state_dict()
    norm = state.pop("text_tower.norm.weight")
    for tensors, message in (
        (state, r"(?s)are not those of the run's.*text_tower\.norm\.weight"),
        (state | {"text_tower.norm.weight": norm * float("nan")}, "not finite in 1 tensors? .'text_tower.norm.weight'"),
    ):
        save_file(tensors, next(folder.rglob("weights.safetensors")))
        with pytest.raises(UsageError, match=message):
            load_model(folder)


PICTURES = random_pictures()
FILES = [png(picture) for picture in PICTURES]


def split_of(files, **location):
    return Split("test", Location(**({"folder": "memory"} | location)), MemoryRecords(files))


SPLIT = split_of(FILES)


@pytest.mark.parametrize(("crop", "workers"), [(0.875, 0), (1.0, 2)])
def test_features_are_those_of_transformers(crop, workers, extraction, public):
    extraction = replace(extraction, shape=Shape(28, crop, 10**6), workers=workers)
    found = saved(extraction, SPLIT, ["patches", "mean"])
    with torch.no_grad():
        theirs = public[1](pixel_values=network_inputs(PICTURES, crop)).last_hidden_state
    assert found.unusable == []
    assert (found.features["patches"].dtype, found.features["mean"].dtype) == (torch.float16, torch.float32)
    # Pixels may differ by a rounding of 1 in 255.
    torch.testing.assert_close(found.features["mean"], theirs.mean(dim=1), atol=0.02, rtol=0)
    torch.testing.assert_close(found.features["patches"].float(), theirs, atol=0.05, rtol=0)
    exact = (found.features["mean"] - theirs.mean(dim=1)).abs().amax(dim=1) < 1e-5
    assert exact.sum() >= len(PICTURES) // 2


def test_pictures_are_normalised_as_the_checkpoint_states(extraction, public):
    colours = Colours((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    model = replace(extraction.model, preprocessing=Preprocessing(colours, 1.0))
    found = saved(replace(extraction, model=model, shape=Shape(28, 1.0, 10**6)), SPLIT, ["mean"])
    image = network_inputs(PICTURES, 1.0)  # normalised otherwise
    mean, std, own_mean, own_std = (torch.tensor(values).view(3, 1, 1) for values in (*IMAGENET, *colours))
    with torch.no_grad():
        theirs = public[1](pixel_values=(image * std + mean - own_mean) / own_std).last_hidden_state
    torch.testing.assert_close(found.features["mean"], theirs.mean(dim=1), atol=0.02, rtol=0)


def test_features_are_those_of_a_runs_own_evaluation(tiny, extraction, tmp_path):
    """Squares that need no resizing, encoded by the core's engine in memory and by the command in files."""
    network = build(tiny).eval()
    model = load_model(finished_run(tmp_path / "runs", tiny, network).path)
    images = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    own = replace(extraction, model=model, shape=Shape(16, 1.0, 10**6), batch_size=6)
    found = saved(own, split_of([png(image) for image in images]), ["patches"]).features["patches"]
    assert torch.equal(found, encode(network.encoder, images, tiny, is_whole=True).half())


def test_another_computation_has_another_folder(extraction, pair):
    others = [
        replace(extraction, shape=Shape(28, 1.0, 10**6)),
        replace(extraction, shape=Shape(42, 0.875, 10**6)),
        replace(extraction, precision="bfloat16"),
        replace(extraction, model=load_model(pair[0])),
    ]
    splits = [split_of(FILES, filters={"width": Filter(min=1)}), split_of(FILES[:-1])]
    names = [each.folder(SPLIT, ["mean"]) for each in (extraction, *others)]
    names += [extraction.folder(each, ["mean"]) for each in splits] + [extraction.folder(SPLIT, ["patches"])]
    assert len(set(names)) == len(names)
    moved = split_of(FILES, folder="moved")
    assert extraction.folder(moved, ["mean"]) == extraction.folder(SPLIT, ["mean"])


def test_unusable_images_are_counted_and_left_out(extraction):
    split = split_of([*FILES[:3], FILES[3][:50], *FILES[4:7], None, *FILES[8:]])
    found = saved(replace(extraction, max_bad_rate=0.2), split, ["mean"])
    reasons = [(each.row, each.key, each.reason) for each in found.unusable]
    assert reasons == [(3, "key-3", "undecodable image"), (7, "key-7", "missing image")]
    again = saved(replace(extraction, max_bad_rate=0.2), split, ["mean"])
    assert again.unusable == found.unusable
    message = r"2 of 10 images cannot be used \(1 undecodable image, 1 missing image"
    for cached in (True, False):
        stricter = replace(extraction, max_bad_rate=0.19, cache_dir=extraction.cache_dir / ("" if cached else "new"))
        with pytest.raises(RunFailedError, match=message):
            saved(stricter, split, ["mean"])
        assert not list(stricter.cache_dir.glob(".*")), "nothing half-written"


def test_values_that_are_not_finite_stop_the_evaluation(extraction):
    extraction.model.network.encoder.norm.weight.data.fill_(float("inf"))
    with pytest.raises(RunFailedError, match="not finite"):
        saved(extraction, SPLIT, ["mean"])
    assert not list(extraction.cache_dir.iterdir())


def test_a_disk_without_room_is_refused_before_anything_is_written(extraction):
    class Huge(MemoryRecords):
        def __len__(self):
            return 10**13

    extraction.cache_dir.mkdir()
    with pytest.raises(UsageError, match=r"features of 10,000,000,000,000 images take .* GB .* free.; choose another"):
        check_room(extraction, [(Split("train", Location(folder="memory"), Huge([])), ["mean", "patches"])])
    assert not list(extraction.cache_dir.iterdir())
    shown = Console(record=True, width=200)
    check_room(replace(extraction, console=shown), [(SPLIT, ["mean"])])
    assert f"take {10 * 32 * 4 / 1e6:.1f} MB" in shown.export_text()
