import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from aimv2.base.errors import RunFailedError, UsageError
from aimv2.datasets.description import Filter, Location
from aimv2.datasets.images import OwnShape, Shape
from aimv2.tools.evaluate.encoding.features import Split, check_room, extracted
from aimv2.tools.evaluate.encoding.models import load_model
from aimv2.tools.evaluate.encoding.ranks import Ranks
from PIL import Image
from rich.console import Console

from aimv2.config.paths import replaced
from aimv2.data.transforms import network_input
from aimv2.model.network import build
from tests.helpers.finished_runs import finished_run
from tests.helpers.public_encoders import network_inputs

QUIET = Console(quiet=True)


@pytest.mark.parametrize("crop", [0.875, 1.0])
@pytest.mark.parametrize("workers", [0, 2])
def test_features_are_those_of_transformers(crop, workers, extraction, split, public, pictures):
    extraction = replace(extraction, shape=Shape(28, crop, 10**6), workers=workers)
    found = extracted(extraction, split, ["patches", "mean"], QUIET)
    with torch.no_grad():
        theirs = public[1](pixel_values=network_inputs(pictures, crop)).last_hidden_state
    assert found.bad == []
    assert (found.features["patches"].dtype, found.features["mean"].dtype) == (torch.float16, torch.float32)
    # Pixels may differ by a rounding of 1 in 255.
    torch.testing.assert_close(found.features["mean"], theirs.mean(dim=1), atol=0.02, rtol=0)
    torch.testing.assert_close(found.features["patches"].float(), theirs, atol=0.05, rtol=0)
    exact = (found.features["mean"] - theirs.mean(dim=1)).abs().amax(dim=1) < 1e-5
    assert exact.sum() >= len(pictures) // 2


def test_features_are_computed_once(extraction, split):
    first = extracted(extraction, split, ["mean"], QUIET)

    def refuse(*arguments):
        raise AssertionError("an image is decoded again")

    again = extracted(replace(extraction, decode=refuse), split, ["mean"], QUIET)
    assert torch.equal(first.features["mean"], again.features["mean"])


def test_only_missing_kinds_are_computed(extraction, split):
    extracted(extraction, split, ["mean"], QUIET)
    file = extraction.folder(split) / "mean.npy"
    before = file.stat()
    both = extracted(extraction, split, ["mean", "patches"], QUIET)
    after = file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    torch.testing.assert_close(both.features["patches"].float().mean(dim=1), both.features["mean"], atol=2e-3, rtol=0)


def test_another_computation_has_another_folder(extraction, split, public_pair):
    others = [
        replace(extraction, shape=Shape(28, 1.0, 10**6)),
        replace(extraction, shape=Shape(42, 0.875, 10**6)),
        replace(extraction, precision="bfloat16"),
        replace(extraction, model=load_model(public_pair[0])),
    ]
    splits = [
        split._replace(location=Location(folder="memory", filters={"width": Filter(min=1)})),
        split._replace(records=type(split.records)(split.records._files[:-1])),
    ]
    names = [each.folder(split) for each in (extraction, *others)] + [extraction.folder(each) for each in splits]
    assert len(set(names)) == len(names)
    assert extraction.folder(split._replace(location=Location(folder="moved"))) == extraction.folder(split)


def test_unusable_images_are_counted_and_left_out(extraction, pictures, memory_records, as_png):
    files = [as_png(picture) for picture in pictures]
    files[3], files[7] = files[3][:50], None
    split = Split("test", Location(folder="memory"), memory_records(files))
    found = extracted(replace(extraction, max_bad_rate=0.2), split, ["mean"], QUIET)
    assert [(each.row, each.key, each.reason) for each in found.bad] == [
        (3, "key-3", "undecodable image"),
        (7, "key-7", "missing image"),
    ]
    again = extracted(replace(extraction, max_bad_rate=0.2), split, ["mean"], QUIET)
    assert again.bad == found.bad
    for cached in (True, False):
        stricter = replace(extraction, max_bad_rate=0.19, cache_dir=extraction.cache_dir / ("" if cached else "new"))
        with pytest.raises(
            RunFailedError, match=r"2 of 10 images cannot be used \(1 undecodable image, 1 missing image"
        ):
            extracted(stricter, split, ["mean"], QUIET)
        assert not list(stricter.cache_dir.rglob(".partial*"))


def test_values_that_are_not_finite_stop_the_evaluation(extraction, split):
    extraction.model.network.encoder.norm.weight.data.fill_(float("inf"))
    with pytest.raises(RunFailedError, match="not finite"):
        extracted(extraction, split, ["mean"], QUIET)
    assert extraction.missing(split, ["mean"]) == ["mean"]


def test_a_disk_without_room_is_refused_before_anything_is_written(extraction, split, memory_records):
    class Huge(memory_records):
        def __len__(self):
            return 10**13

    extraction.cache_dir.mkdir()
    huge = Split("train", Location(folder="memory"), Huge([]))
    with pytest.raises(
        UsageError, match=r"features of 10,000,000,000,000 images take .* GB .* are free; choose another"
    ):
        check_room(extraction, [(huge, ["mean", "patches"])], QUIET)
    assert not list(extraction.cache_dir.iterdir())
    shown = Console(record=True, width=200)
    check_room(extraction, [(split, ["mean"])], shown)
    assert f"take {10 * 32 * 4 / 1e6:.1f} MB" in shown.export_text()


def test_shares_of_ranks_write_one_file(extraction, split, monkeypatch):
    """Two ranks, one after the other, in one process: what they exchange is given to both."""
    alone = extracted(extraction, split, ["mean", "patches"], QUIET)

    class Second(Ranks):
        def gathered(self, value):
            return [value]

    class First(Ranks):
        """Lets the second rank encode once its own part is encoded."""

        def gathered(self, value):
            if value == []:
                (partial,) = together.folder(split).glob(".partial*")
                from aimv2.tools.evaluate.encoding import features

                second = replace(together, ranks=Second(1, 2))
                return [value, features._encode(second, split, ["mean", "patches"], partial, QUIET)]
            return [value]

    together = replace(extraction, ranks=First(0, 2), cache_dir=extraction.cache_dir / "two")
    found = extracted(together, split, ["mean", "patches"], QUIET)
    for kind, value in alone.features.items():
        torch.testing.assert_close(found.features[kind], value, atol=1e-5, rtol=1e-3)
    facts = json.loads((together.folder(split) / "features.json").read_text())
    assert (facts["ranks"], facts["images"]) == (2, 10)


@pytest.fixture
def native(tiny, extraction, tmp_path):
    """An encoder with sin-cos positions and patches of 4 px, and images in their own sizes."""
    config = replaced(tiny, {"model.encoder.positions": "sincos"})
    run = finished_run(tmp_path / "runs", config, build(config))
    return replace(extraction, model=load_model(run.path), shape=OwnShape(200, 4, 10**6))


@pytest.mark.parametrize("area", [60, 200])
@torch.no_grad()
def test_images_in_their_own_sizes_have_the_features_of_one_image_alone(area, native, pictures, memory_records, as_png):
    """Oracle: Pillow and one encoder pass for each picture. All pictures have more than 60 patches, some over 200."""
    native = replace(native, shape=native.shape._replace(area=area))
    files = [as_png(pictures[number]) for number in (0, 3, 0, 9, 5)]
    files.insert(2, b"nothing")
    split = Split("test", Location(folder="memory"), memory_records(files))
    found = extracted(replace(native, max_bad_rate=0.5), split, ["mean"], QUIET)
    assert [each.row for each in found.bad] == [2]
    sizes = set()
    for row in (0, 1, 3, 4, 5):
        picture = Image.open(io.BytesIO(files[row]))
        own = min(picture.height * picture.width // 16, area)
        rows = int((own * picture.height / picture.width) ** 0.5)
        columns = int((own * picture.width / picture.height) ** 0.5)
        sizes.add((rows, columns))
        resized = np.asarray(picture.resize((4 * columns, 4 * rows), Image.Resampling.BICUBIC))
        alone = native.model.encoder(network_input(torch.from_numpy(resized.copy())[None]))
        assert alone.shape[1] == rows * columns <= area
        torch.testing.assert_close(found.features["mean"][row], alone.mean(dim=(0, 1)), atol=1e-5, rtol=0)
    assert len(sizes) == 4


def test_other_areas_have_other_folders(native, split):
    assert native.folder(split) != replace(native, shape=native.shape._replace(area=100)).folder(split)
