"""What the benchmark of loading prints and refuses."""

import numpy as np
import pytest
import torch
from aimv2.base.errors import RunFailedError, UsageError
from benchmarks.command import bench_command
from benchmarks.data import BARE, OURS, WEBDATASET, Bench, Options, table
from benchmarks.synthetic import SCENES

from aimv2.config.data_config import AugmentConfig

WHOLE = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=0)


def test_loader_that_skips_or_spoils_images_is_refused(tmp_path):
    bench = Bench(tmp_path, SCENES, Options(batches=1, batch_size=4))
    batch = torch.zeros(4, 3, 32, 32)
    assert bench.num_images == 32
    bench.load_all("it", lambda: iter([batch] * 8))
    with pytest.raises(RunFailedError, match="it loads 28 of 32 images"):
        bench.load_all("it", lambda: iter([batch] * 7))
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
        (["batches=-1"], "batches: Input should be greater than or equal to 0"),
        (["repeats=1"], "repeats: Input should be greater than or equal to 2"),
        (["max_workers=-1"], "max_workers: Input should be greater than or equal to 0"),
        (["clock=sun"], "clock: Input should be 'wall' or 'cpu' (got 'sun')"),
        (["shards=3"], "unknown key 'shards'"),
        (["folder=/proc/nowhere"], "folder='/proc/nowhere' cannot be written"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        bench_command(["data", *arguments])
    assert str(caught.value).startswith(message)


@pytest.mark.exhaustive
def test_command_prints_rates_starts_and_the_machine_and_leaves_nothing(tmp_path, capsys):
    sizes = ["batches=1", "batch_size=8", "repeats=2", "max_workers=1", "max_shards=1"]
    sizes += ["huge_shards=20", "memory_samples=20", "index_mb=1"]
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
    assert words.count("first batch of 200,000 samples in 20 shards: ") == 1
    assert words.count("memory of a loader: ") == 1
    for row in ("index, 1 process", "index, 2 processes", "read and CRC-32"):
        assert printed.count(f"│ {row} ") == 1
    assert words.count("warning: ") == 8, "two repeats have no interval"
    assert "batches of 8; medians of 2 interleaved repeats in wall seconds" in words
    assert not list(tmp_path.iterdir())


def test_every_part_can_be_switched_off(tmp_path, capsys):
    parts = ("batches", "max_shards", "huge_shards", "memory_samples", "index_mb")
    assert bench_command(["data", *(f"{part}=0" for part in parts), f"folder={tmp_path}"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "1 thread per process" in words
    assert not any(part in words for part in ("ours", "loader", "first batch", "CRC-32"))
