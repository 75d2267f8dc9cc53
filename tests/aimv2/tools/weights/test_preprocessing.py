"""The file of transformers' image processors, which are the oracle."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoImageProcessor

from aimv2.base.errors import UsageError
from aimv2.data.transforms import Colours, network_input
from aimv2.datasets.labelled import Shape
from aimv2.tools.weights.command import weights_command
from aimv2.tools.weights.preprocessing import AS_TRAINED, FILE, UNCHANGED, Preprocessing, read_preprocessing

OTHER = Preprocessing(Colours((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)), 224 / 256)


@pytest.mark.parametrize("preprocessing", [AS_TRAINED, OTHER], ids=["as-trained", "other"])
def test_transformers_prepares_images_as_an_evaluation_does(preprocessing, tmp_path):
    (tmp_path / FILE).write_text(preprocessing.to_json(56))
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    picture = Image.effect_noise((12, 9), 90).convert("RGB").resize((160, 120), Image.Resampling.BICUBIC)
    (theirs,) = processor(picture, return_tensors="pt")["pixel_values"]
    picture.save(content := io.BytesIO(), "PNG")
    shown = Shape(56, preprocessing.crop, 10**6).shown(content.getvalue())
    (ours,) = network_input(torch.from_numpy(np.ascontiguousarray(shown)[None]), preprocessing.colours)
    assert theirs.shape == ours.shape
    assert (theirs - ours).abs().max() < 2.5 / 255 / min(preprocessing.colours.std), "a rounding of a pixel or two"


@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
    sizes=st.tuples(st.integers(1, 600), st.integers(0, 300)),
)
def test_what_is_written_is_read(tmp_path_factory, mean, std, sizes):
    folder, (side, border) = tmp_path_factory.mktemp("weights"), sizes
    written = Preprocessing(Colours(mean, std), side / (side + border))
    (folder / FILE).write_text(written.to_json(side))
    found = read_preprocessing(folder)
    assert found is not None
    assert found.colours == written.colours
    assert found.crop == pytest.approx(written.crop)
    assert read_preprocessing(folder / "model.safetensors") == found


def test_without_the_file_nothing_is_known(tmp_path):
    assert read_preprocessing(tmp_path) is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"image_mean": [0.5, 0.5]}, r"image_mean must be three numbers .got .0\.5, 0\.5.."),
        ({"image_mean": "imagenet"}, "image_mean must be three numbers"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std has 0, and must be above 0"),
        ({"image_std": [0.5, 0.5, float("nan")]}, "image_std must be three numbers"),
        ({"do_rescale": False}, "do_rescale and rescale_factor must make 0 to 1 of 0 to 255"),
        ({"rescale_factor": 1}, "do_rescale and rescale_factor must make 0 to 1 of 0 to 255"),
        ({"rescale_factor": None}, "rescale_factor must be a number"),
        ({"image_mean": [10**400, 0, 0]}, "image_mean must be three numbers"),
    ],
)
def test_what_are_no_colours_is_one_sentence(tmp_path, values, sentence):
    (tmp_path / FILE).write_text(json.dumps(json.loads(AS_TRAINED.to_json(224)) | values))
    with pytest.raises(UsageError, match=f"preprocessor_config.json: {sentence}"):
        read_preprocessing(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"do_center_crop": False},
        {"do_resize": False},
        {"resample": 2},
        {"size": {"height": 224, "width": 224}},
        {"crop_size": {"height": 224, "width": 200}},
        {"crop_size": 300},
        {"size": -1},
    ],
)
def test_images_that_are_shown_in_another_way_have_no_crop(tmp_path, values):
    (tmp_path / FILE).write_text(json.dumps(json.loads(AS_TRAINED.to_json(224)) | values))
    assert read_preprocessing(tmp_path) == Preprocessing(AS_TRAINED.colours, None)


def test_images_that_are_not_normalised_stay_as_they_are(tmp_path):
    values = json.loads(AS_TRAINED.to_json(224)) | {"do_normalize": False, "size": 256, "crop_size": 224}
    (tmp_path / FILE).write_text(json.dumps(values))
    assert read_preprocessing(tmp_path) == Preprocessing(UNCHANGED, 224 / 256)


def test_it_is_written_with_a_run_and_kept_with_published_weights(foreign, initialised_run, tiny, tmp_path):
    run, _ = initialised_run(tmp_path / "runs", tiny)
    assert weights_command(["export", f"from={run}", f"to={tmp_path / 'own'}"]) == 0
    assert read_preprocessing(tmp_path / "own") == Preprocessing(AS_TRAINED.colours, 16 / 18)
    assert AutoImageProcessor.from_pretrained(tmp_path / "own").crop_size["height"] == 16
    assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'unknown'}"]) == 0
    assert read_preprocessing(tmp_path / "unknown") is None
    published = json.loads(OTHER.to_json(224)) | {"of its own": [1]}
    (foreign / FILE).write_text(json.dumps(published))
    assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'ours'}"]) == 0
    assert weights_command(["export", f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}"]) == 0
    for folder in ("ours", "there"):
        assert json.loads((tmp_path / folder / FILE).read_text()) == published
    assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'small'}", "image_px=28"]) == 0
    resized = json.loads((tmp_path / "small" / FILE).read_text())
    assert (resized["crop_size"]["height"], resized["size"]["shortest_edge"]) == (28, 32)
