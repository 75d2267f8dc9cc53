import io
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from aimv2.config.data_config import AugmentConfig
from aimv2.config.paths import replaced
from aimv2.data.transforms import unnormalise
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from benchmarks import loaders
from benchmarks.synthetic import SCENES, describe, write_shards

WHOLE = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=0)


def pictures(batches):
    return [unnormalise(image).tobytes() for batch in batches for image in batch]


def test_three_loaders_load_the_same_pictures(tmp_path):
    shards = write_shards(tmp_path / "shards", SCENES, 32)
    files = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for each in tar:
                if each.name.endswith("png"):
                    files[each.name] = np.asarray(Image.open(tar.extractfile(each))).tobytes()
    description = describe(tmp_path / "shards")
    prepare_location(read_source(description))
    config = loaders.run_config(description, SCENES, batch_size=8, samples=32)
    config = replaced(config, {"augment": vars(WHOLE)})
    bare = pictures(loaders.bare(loaders.places(shards, "png"), WHOLE, 32, 8, 0))
    webdataset = pictures(loaders.webdataset(shards, WHOLE, 32, 8, 0))
    assert bare == webdataset == list(files.values())
    ours = pictures(loaders.ours(config))
    assert len(ours) == 32
    assert set(ours) < set(bare), "some are held out"


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_the_bare_loop_share_the_batches(tmp_path, workers):
    files = loaders.places(write_shards(tmp_path / "shards", SCENES, 20), "png")
    alone = pictures(loaders.bare(files, WHOLE, 32, 8, 0))
    assert Counter(pictures(loaders.bare(files, WHOLE, 32, 8, workers))) == Counter(alone)


def test_plain_crop_drafts_and_flips():
    pixels = np.zeros((400, 400, 3), dtype=np.uint8)
    pixels[:, :200] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    flipped = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=1)
    for augment, expected in ((WHOLE, pixels), (flipped, pixels[:, ::-1])):
        image = Image.open(io.BytesIO(stream.getvalue()))
        found = loaders.crop_pixels(image, augment, 100, np.random.default_rng(0)).astype(int)
        assert image.size == (100, 100), "drafted to a quarter"
        np.testing.assert_allclose(found, expected[::4, ::4], atol=2)
