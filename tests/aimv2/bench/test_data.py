"""The benchmark of loading: its shards, the three loaders on the same pictures, and what it prints."""

import io
import json
import random
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aimv2.bench import loaders
from aimv2.bench.command import bench_command
from aimv2.bench.data import BARE, OURS, WEBDATASET, Bench, Options, table
from aimv2.bench.synthetic import PHOTOGRAPHS, SCENES, describe, link_shards, write_shards
from aimv2.config.data_config import AugmentConfig
from aimv2.config.paths import replaced
from aimv2.data.files.description import read_source
from aimv2.data.files.open import prepare_source
from aimv2.data.transforms import unnormalise
from aimv2.errors import RunFailedError, UsageError

WHOLE = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=0)


@pytest.mark.parametrize("kind", [PHOTOGRAPHS, SCENES], ids=lambda kind: kind.name)
def test_shards_have_pictures_of_their_kind_and_two_captions(tmp_path, kind):
    shards = write_shards(tmp_path / "shards", kind, 10)
    assert [shard.name for shard in shards] == ["00000.tar", "00001.tar", "00002.tar", "00003.tar"]
    members = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members |= {each.name: tar.extractfile(each).read() for each in tar}
    assert len(members) == 30
    for number in range(10):
        content, text, described = (members[f"{number:09d}.{end}"] for end in (kind.extension, "txt", "json"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (kind.width, kind.height)
            assert np.asarray(image).std() > 10
        assert len(text.split()) == 8
        assert len(json.loads(described)["caption"].split()) == 30
        if kind is PHOTOGRAPHS:
            assert 30_000 < len(content) < 60_000


def test_links_have_the_content_of_the_shard(tmp_path):
    (shard, *_) = write_shards(tmp_path / "shards", SCENES, 4)
    links = link_shards(tmp_path / "links", shard, 3)
    assert [link.name for link in links] == ["00000.tar", "00001.tar", "00002.tar"]
    assert {link.read_bytes() for link in links} == {shard.read_bytes()}


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
    prepare_source(read_source(description))
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
        found = loaders.crop_pixels(image, augment, 100, random.Random(0)).astype(int)
        assert image.size == (100, 100), "drafted to a quarter"
        np.testing.assert_allclose(found, expected[::4, ::4], atol=2)


@given(seed=st.integers(0, 1000), width=st.integers(8, 300), height=st.integers(8, 300))
def test_boxes_of_the_plain_crop_are_within_the_image(seed, width, height):
    augment = AugmentConfig(min_scale=0.3, max_scale=0.6, flip_probability=0)
    left, top, box_width, box_height = loaders.random_box(width, height, augment, random.Random(seed))
    assert min(left, top) >= 0
    assert min(box_width, box_height) >= 1
    assert left + box_width <= width
    assert top + box_height <= height
    if max(width, height) < 1.5 * min(width, height) and min(width, height) > 50:
        assert 0.25 < box_width * box_height / (width * height) < 0.65


def test_loader_that_skips_or_spoils_images_is_refused(tmp_path):
    bench = Bench(tmp_path, SCENES, Options(batches=1, batch_size=4))
    batch = torch.zeros(4, 3, 32, 32)
    assert bench.num_images == 64
    bench.load_all("it", lambda: iter([batch] * 16))
    with pytest.raises(RunFailedError, match="it loads 60 of 64 images"):
        bench.load_all("it", lambda: iter([batch] * 15))
    with pytest.raises(RunFailedError, match=r"it loads images of shape \(4, 3, 16, 32\) as torch.float32"):
        bench.load_all("it", lambda: iter([batch[:, :, ::2]] * 16))


def test_table_shows_rates_and_the_speed_of_ours_relative_to_each():
    seconds = {
        OURS: np.array([2.0, 2.2, 2.0, 2.0, 2.0, 2.0]),
        WEBDATASET: np.array([4.0, 2.2, 4.0, 4.0, 4.0, 4.0]),
        BARE: np.full(6, 1.0),
    }
    columns = {str(column.header): list(column.cells) for column in table(seconds, 100, "").columns}
    assert columns["loader"] == ["ours", "webdataset", "bare loop"]
    assert columns["images / s"] == ["50", "25", "100"]
    assert columns["ours / it"] == ["", "2.000", "0.500"]
    assert columns["95 %"] == ["", "1.000 – 2.000", "0.455 – 0.500"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batches=0"], "batches: Input should be greater than 0"),
        (["repeats=1"], "repeats: Input should be greater than or equal to 2"),
        (["max_workers=-1"], "max_workers: Input should be greater than or equal to 0"),
        (["shards=3"], "unknown key 'shards'"),
        (["folder=/proc/nowhere"], "folder='/proc/nowhere' cannot be written"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        bench_command(["data", *arguments])
    assert str(caught.value).startswith(message)


def test_command_prints_rates_starts_and_the_machine_and_leaves_nothing(tmp_path, capsys):
    sizes = ["batches=1", "batch_size=8", "repeats=2", "max_workers=1", "max_shards=1"]
    assert bench_command(["data", *sizes, f"folder={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    for kind in ("photographs", "scenes"):
        for workers in (0, 1):
            assert words.count(f"{kind}, {workers} loader workers") == 1
    for name in (OURS, WEBDATASET, BARE):
        assert printed.count(f"│ {name} ") == 4
    for start in ("1 shard, index: ", "1 shard, ours: ", "1 shard, webdataset: "):
        assert words.count(start) == 1
    assert words.count("warning: ") == 8, "two repeats have no interval"
    assert "batches of 8; medians of 2 interleaved repeats" in words
    assert not list(tmp_path.iterdir())
