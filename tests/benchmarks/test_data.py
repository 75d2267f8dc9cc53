"""Both loaders load the same pictures, and a loader of something else is refused."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from aimv2.base.errors import RunFailedError
from aimv2.config.data_config import AugmentConfig
from aimv2.config.paths import replaced
from aimv2.data.transforms import unnormalise
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from benchmarks.data import Bench, DataOptions, crop_pixels, load_ours, load_webdataset, run_config
from benchmarks.synthetic import SCENES, describe, write_shards

WHOLE = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=0)


def pictures(batches):
    return [unnormalise(image).tobytes() for batch in batches for image in batch]


def test_both_loaders_load_the_same_pictures(tmp_path):
    shards = write_shards(tmp_path / "shards", SCENES, 32)
    files = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for each in tar:
                if each.name.endswith("png"):
                    files[each.name] = np.asarray(Image.open(tar.extractfile(each))).tobytes()
    description = describe(tmp_path / "shards")
    prepare_location(read_source(description))
    config = run_config(description, SCENES, batch_size=8, samples=32)
    config = replaced(config, {"augment": vars(WHOLE)})
    webdataset = pictures(load_webdataset(shards, WHOLE, 32, 8, 0))
    assert webdataset == list(files.values())
    ours = pictures(load_ours(config))
    assert len(ours) == 32
    assert set(ours) < set(webdataset), "some are held out"


def test_plain_crop_drafts_and_flips():
    pixels = np.zeros((400, 400, 3), dtype=np.uint8)
    pixels[:, :200] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    flipped = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=1)
    for augment, expected in ((WHOLE, pixels), (flipped, pixels[:, ::-1])):
        image = Image.open(io.BytesIO(stream.getvalue()))
        found = crop_pixels(image, augment, 100, np.random.default_rng(0)).astype(int)
        assert image.size == (100, 100), "drafted to a quarter"
        np.testing.assert_allclose(found, expected[::4, ::4], atol=2)


def test_loader_that_skips_or_spoils_images_is_refused(tmp_path):
    bench = Bench(tmp_path, SCENES, DataOptions(batches=1, batch_size=4))
    batch = torch.zeros(4, 3, 32, 32)
    assert bench.num_images == 32
    bench.load_all("it", lambda: iter([batch] * 8))
    with pytest.raises(RunFailedError, match="it loads 28 of 32 images"):
        bench.load_all("it", lambda: iter([batch] * 7))
    with pytest.raises(RunFailedError, match=r"it loads images of shape \(4, 3, 16, 32\) as torch.float32"):
        bench.load_all("it", lambda: iter([batch[:, :, ::2]] * 16))
