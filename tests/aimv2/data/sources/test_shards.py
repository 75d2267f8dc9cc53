import pickle
import tarfile

import numpy as np
import pytest
import webdataset as wds
from aimv2.base.errors import UsageError

from aimv2.data.sources.shards import INDEX, Shards, write_shards


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return [
        (
            rng.integers(0, 256, (7, 7, 3), dtype=np.uint8),
            {"key": f"sample-{i}", "name": f"caption {i}", "is_variant": i % 2 == 0},
        )
        for i in range(25)
    ]


@pytest.fixture
def folder(samples, tmp_path):
    write_shards(tmp_path / "pairs", samples, pairs_per_shard=10)
    return tmp_path / "pairs"


def test_shards_return_every_picture_and_label(folder, samples):
    opened = Shards(folder)
    assert len(opened) == 25
    assert opened.table["shard"].nunique() == 3
    for row, (image, labels) in enumerate(samples):
        np.testing.assert_array_equal(opened.image(row), image)
        assert {key: opened.table[key][row] for key in labels} == labels


def test_webdataset_reads_the_same(folder, samples):
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    read = list(wds.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in read] == [labels["key"] for _, labels in samples]
    np.testing.assert_array_equal(read[13]["npy"], samples[13][0])
    assert read[13]["json"] == samples[13][1]


def test_pickled_shards_have_no_copy_of_the_pictures(folder, samples):
    opened = Shards(folder)
    opened.image(0)
    copied = pickle.dumps(opened)
    assert b"memmap" not in copied
    np.testing.assert_array_equal(pickle.loads(copied).image(24), samples[24][0])


def test_second_writer_leaves_the_first_ones_files(folder, samples):
    before = (folder / INDEX).stat().st_mtime_ns
    write_shards(folder, samples[:3])
    assert (folder / INDEX).stat().st_mtime_ns == before
    assert not list(folder.parent.glob(".*")), "nothing half-written is left"


def test_failed_write_leaves_no_files(tmp_path, samples):
    def broken():
        yield samples[0]
        raise RuntimeError("no more pictures")

    with pytest.raises(RuntimeError):
        write_shards(tmp_path / "pairs", broken())
    assert not list(tmp_path.iterdir())


def test_truncated_shard_is_named(folder):
    with (folder / "000001.tar").open("r+b") as file:
        file.truncate(600)
    with pytest.raises(UsageError, match=r"000001\.tar is missing or cut short"):
        Shards(folder)


def test_missing_index_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"index\.parquet cannot be read"):
        Shards(tmp_path)


def test_shards_are_plain_tar_files(folder):
    with tarfile.open(folder / "000000.tar") as tar:
        assert set(tar.getnames()[:2]) == {"sample-0.npy", "sample-0.json"}
