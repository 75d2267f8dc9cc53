"""The shards that are loaded; both loaders load the same pictures."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from aimv2.base.errors import RunFailedError
from aimv2.config.data_config import AugmentConfig
from aimv2.config.program import replaced
from aimv2.data.prepare import prepare
from aimv2.data.transforms import unnormalise
from benchmarks.data import SIZE, load_all, load_ours, load_webdataset, run_config, write_shards

WHOLE = AugmentConfig(min_scale=1, min_ratio=SIZE[0] / SIZE[1], max_ratio=SIZE[0] / SIZE[1], flip_probability=0)


def test_shards_have_photographs_and_two_captions(tmp_path):
    shards = write_shards(tmp_path / "pairs", 10)
    assert [shard.name for shard in shards] == ["00000.tar", "00001.tar", "00002.tar", "00003.tar"]
    members = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}
    assert len(members) == 30
    for number in range(10):
        content, text, described = (members[f"{number:09d}.{end}"] for end in ("jpg", "txt", "json"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == SIZE
            assert np.asarray(image).std() > 10
        assert len(text.split()) == 8
        assert len(json.loads(described)["caption"].split()) == 30
        assert 30_000 < len(content) < 60_000


def test_both_loaders_load_the_same_pictures(tmp_path):
    shards = write_shards(tmp_path / "pairs", 16)
    config = replaced(run_config(tmp_path, 4, 16), {"augment": vars(WHOLE)})
    data = prepare(config.data, config.model.vocab_size)
    theirs, ours = (
        [unnormalise(image).astype(float) for batch in batches for image in batch]
        for batches in (load_webdataset(shards, WHOLE, 4, 0), load_ours(config, data, 0))
    )
    assert len(theirs) == len(ours) == 16
    for picture in ours:  # in another order, and some are held out
        distances = sorted(np.abs(picture - other).mean() for other in theirs)
        assert distances[0] < 2 < 10 < distances[1]


def test_loader_that_skips_images_is_refused():
    load_all("it", lambda: iter([range(4)] * 8), 32)
    with pytest.raises(RunFailedError, match="it loads 28 of 32 images"):
        load_all("it", lambda: iter([range(4)] * 7), 32)
