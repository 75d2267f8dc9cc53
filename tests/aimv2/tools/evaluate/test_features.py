import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.paths import replaced
from aimv2.data.transforms import IMAGENET, Colours, network_input
from aimv2.datasets.description import Filter, Location
from aimv2.datasets.labelled import OwnShape, Shape
from aimv2.evaluation.features import encode
from aimv2.objectives.build import build
from aimv2.tools.evaluate.features import Split, check_room, saved
from aimv2.tools.evaluate.models import load_model
from aimv2.tools.weights.preprocessing import Preprocessing
from tests.helpers.finished_runs import finished_run
from tests.helpers.memory_records import MemoryRecords, png, random_pictures
from tests.helpers.public_encoders import network_inputs

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


def test_only_features_that_are_missing_are_computed(extraction):
    def file():
        stat = (extraction.folder(SPLIT) / "mean.npy").stat()
        return stat.st_ino, stat.st_mtime_ns

    first, before = saved(extraction, SPLIT, ["mean"]), file()
    both = saved(extraction, SPLIT, ["mean", "patches"])
    assert file() == before
    assert torch.equal(first.features["mean"], both.features["mean"])
    torch.testing.assert_close(both.features["patches"].float().mean(dim=1), both.features["mean"], atol=2e-3, rtol=0)


def test_another_computation_has_another_folder(extraction, pair):
    others = [
        replace(extraction, shape=Shape(28, 1.0, 10**6)),
        replace(extraction, shape=Shape(42, 0.875, 10**6)),
        replace(extraction, shape=OwnShape(100, 14, 10**6)),
        replace(extraction, shape=OwnShape(200, 14, 10**6)),
        replace(extraction, precision="bfloat16"),
        replace(extraction, model=load_model(pair[0])),
    ]
    splits = [split_of(FILES, filters={"width": Filter(min=1)}), split_of(FILES[:-1])]
    names = [each.folder(SPLIT) for each in (extraction, *others)] + [extraction.folder(each) for each in splits]
    assert len(set(names)) == len(names)
    assert extraction.folder(split_of(FILES, folder="moved")) == extraction.folder(SPLIT)


def test_unusable_images_are_counted_and_left_out(extraction):
    split = split_of([*FILES[:3], FILES[3][:50], *FILES[4:7], None, *FILES[8:]])
    found = saved(replace(extraction, max_bad_rate=0.2), split, ["mean"])
    assert [(each.row, each.key, each.reason) for each in found.unusable] == [
        (3, "key-3", "undecodable image"),
        (7, "key-7", "missing image"),
    ]
    again = saved(replace(extraction, max_bad_rate=0.2), split, ["mean"])
    assert again.unusable == found.unusable
    for cached in (True, False):
        stricter = replace(extraction, max_bad_rate=0.19, cache_dir=extraction.cache_dir / ("" if cached else "new"))
        with pytest.raises(
            RunFailedError, match=r"2 of 10 images cannot be used \(1 undecodable image, 1 missing image"
        ):
            saved(stricter, split, ["mean"])
        assert not list(stricter.cache_dir.rglob(".partial*"))


def test_values_that_are_not_finite_stop_the_evaluation(extraction):
    extraction.model.network.encoder.norm.weight.data.fill_(float("inf"))
    with pytest.raises(RunFailedError, match="not finite"):
        saved(extraction, SPLIT, ["mean"])
    assert extraction.missing(SPLIT, ["mean"]) == ["mean"]


def test_a_disk_without_room_is_refused_before_anything_is_written(extraction):
    class Huge(MemoryRecords):
        def __len__(self):
            return 10**13

    extraction.cache_dir.mkdir()
    with pytest.raises(
        UsageError, match=r"features of 10,000,000,000,000 images take .* GB .* are free; choose another"
    ):
        check_room(extraction, [(Split("train", Location(folder="memory"), Huge([])), ["mean", "patches"])])
    assert not list(extraction.cache_dir.iterdir())
    shown = Console(record=True, width=200)
    check_room(replace(extraction, console=shown), [(SPLIT, ["mean"])])
    assert f"take {10 * 32 * 4 / 1e6:.1f} MB" in shown.export_text()


@pytest.mark.parametrize("area", [60, 200])
@torch.no_grad()
def test_images_in_their_own_sizes_have_the_features_of_one_image_alone(area, tiny, extraction, tmp_path):
    """Oracle: Pillow and one encoder pass for each picture. All pictures have more than 60 patches, some over 200."""
    config = replaced(tiny, {"model.encoder.positions": "sincos"})
    model = load_model(finished_run(tmp_path / "runs", config, build(config)).path)
    native = replace(extraction, model=model, shape=OwnShape(area, 4, 10**6), max_bad_rate=0.5)
    files = [FILES[0], FILES[3], b"nothing", FILES[0], FILES[9], FILES[5]]
    found = saved(native, split_of(files), ["mean"])
    assert [each.row for each in found.unusable] == [2]
    sizes = set()
    for row in (0, 1, 3, 4, 5):
        picture = Image.open(io.BytesIO(files[row]))
        own = min(picture.height * picture.width // 16, area)
        rows = int((own * picture.height / picture.width) ** 0.5)
        columns = int((own * picture.width / picture.height) ** 0.5)
        sizes.add((rows, columns))
        resized = np.asarray(picture.resize((4 * columns, 4 * rows), Image.Resampling.BICUBIC))
        alone = model.encoder(network_input(torch.from_numpy(resized.copy())[None]))
        assert alone.shape[1] == rows * columns <= area
        torch.testing.assert_close(found.features["mean"][row], alone.mean(dim=(0, 1)), atol=1e-5, rtol=0)
    assert len(sizes) == 4
