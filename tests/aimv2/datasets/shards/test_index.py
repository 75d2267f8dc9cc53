import dataclasses
import json
import tracemalloc
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.index_folder import index_path, write_facts
from aimv2.datasets.records import DataPart
from aimv2.datasets.shards.build import build_index
from aimv2.datasets.shards.index import open_index, write_versions
from aimv2.datasets.shards.records import ShardRecords
from aimv2.datasets.shards.scan import row_type
from tests.helpers.shards import location, samples_of, write_shards

NUM_SHARDS, SAMPLES_PER_SHARD = 200_000, 10_000


def build(place):
    return build_index(place, 1, lambda *_: None)


@pytest.fixture
def huge(tmp_path):
    """Return the location of 200,000 shards with 2 billion samples, of which only the last shard and its rows exist."""
    write_shards(tmp_path, num_shards=1, num_samples=5)
    build(location(tmp_path))
    real = open_index(location(tmp_path))
    last = tmp_path / f"{NUM_SHARDS - 1:06d}.tar"
    (tmp_path / "00000.tar").rename(last)
    names = "{000000.." + f"{NUM_SHARDS - 1:06d}" + "}.tar"
    place = dataclasses.replace(location(tmp_path, names), index=str(tmp_path / "huge.index"))
    folder = index_path(place)
    folder.mkdir()
    size, checksum = last.stat().st_size, real.parts()[0].checksum
    parts = [DataPart(f"{number:06d}.tar", SAMPLES_PER_SHARD, size, checksum) for number in range(NUM_SHARDS)]
    kind = row_type(3)
    with (folder / "rows.bin").open("wb") as file:
        file.truncate(NUM_SHARDS * SAMPLES_PER_SHARD * kind.itemsize)  # sparse: it takes no disk
        file.seek((NUM_SHARDS - 1) * SAMPLES_PER_SHARD * kind.itemsize)
        file.write(real.rows.tobytes())
    extensions = dict.fromkeys(real.extensions, NUM_SHARDS * SAMPLES_PER_SHARD)
    total = NUM_SHARDS * SAMPLES_PER_SHARD
    write_versions(folder, [real.table["version"][0].as_py()] * NUM_SHARDS, [Counter()] * NUM_SHARDS)
    write_facts(folder, place, total, parts, base=f"{tmp_path}/", shards=[names], extensions=extensions, notes={})
    return place, last


@pytest.mark.exhaustive
def test_two_billion_samples_open_without_reading_them(huge):
    place, last = huge
    row = (NUM_SHARDS - 1) * SAMPLES_PER_SHARD + 3
    key, members = samples_of(last)[3]
    tracemalloc.start()
    try:
        records = ShardRecords(place)
        assert len(records) == NUM_SHARDS * SAMPLES_PER_SHARD
        assert (records.key(row), records.image(row)) == (key, members["jpg"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert records.block_rows == 70_000
    assert peak < 100 * NUM_SHARDS  # bytes; measured: 48 a shard. A byte a sample would be 100 times as much


def test_the_index_is_what_its_description_says(tmp_path):
    paths = write_shards(tmp_path, num_shards=2)
    build(location(tmp_path))
    folder = tmp_path / "set.index"
    rows = np.fromfile(folder / "rows.bin", row_type(3))
    assert len(rows) == 10
    table = pq.read_table(folder / "parts.parquet").to_pydict()
    assert table["name"] == ["00000.tar", "00001.tar"]
    assert table["num_samples"] == [5, 5]
    assert table["size"] == [path.stat().st_size for path in paths]
    facts = json.loads((folder / "index.json").read_text())
    assert facts["extensions"] == {"jpg": 10, "json": 10, "txt": 10}


@pytest.mark.parametrize("broken", ["rows.bin", "parts.parquet"])
@pytest.mark.parametrize("content", [None, b"x" * 100])
def test_a_broken_index_is_one_sentence(broken, content, tmp_path):
    write_shards(tmp_path)
    build(location(tmp_path))
    path = tmp_path / "set.index" / broken
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot be used: .*; write it again with"):
        open_index(location(tmp_path))
    build(location(tmp_path))
    assert open_index(location(tmp_path)).num_shards == 3
