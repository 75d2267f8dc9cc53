"""The bounds on file operations, and the counts on which they rest."""

import os
import shutil
from pathlib import Path

import pytest

from aimv2.runs.record import RunFolder
from benchmarks.ledger import BOUNDS, occasions, requested, simulated, totals, whole_launch
from tests.helpers.operations import counted


def test_each_operation_in_the_folder_is_counted_once(tmp_path):
    inside, outside = tmp_path / "runs", tmp_path / "other"
    for folder in (inside, outside):
        folder.mkdir()
    with counted(inside) as counts:
        for folder in (inside, outside):
            (folder / "one").mkdir()
            assert not (folder / "file").exists()
            (folder / "file").write_text("two\nlines")
            assert (folder / "file").read_text() == "two\nlines"
            with (folder / "file").open("ab") as file:
                file.write(b"more")
                file.flush()
                os.fsync(file.fileno())
                file.write(b"still more")
            os.link(folder / "file", folder / "link")
            (folder / "link").rename(folder / "renamed")
            os.truncate(folder / "file", 3)
            (folder / "renamed").unlink()
            assert sorted(os.listdir(folder)) == ["file", "one"]
    assert counts == {
        "make": 2, "stat": 1, "open": 3, "write": 3, "read": 1,
        "sync": 1, "rename": 1, "touch": 1, "remove": 1, "list": 1,
    }  # fmt: skip


def test_long_listings_are_counted_by_what_is_read_at_once(tmp_path):
    for number in range(2000):
        (tmp_path / f"v2-{number:012d}").touch()
    with counted(tmp_path) as counts:
        assert len(list(tmp_path.glob("v2-*"))) == 2000
        assert len(os.listdir(tmp_path)) == 2000
    assert counts["list"] == 2 * 3, "2,000 names of 39 bytes, 32 kB at once"


def test_a_deleted_tree_is_counted(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    with counted(tmp_path) as counts:
        shutil.rmtree(tmp_path / "a")
    assert counts["remove"] == 3


def beyond(found):
    """Return the occasions that take more operations than they may."""
    return {occasion: number for occasion, number in totals(found).items() if number >= BOUNDS[occasion]}


@pytest.mark.exhaustive
def test_fifty_runs_take_no_more_operations_than_the_bounds(cache_dir):
    with simulated(50, 10, Path(cache_dir)) as ledger:
        found = occasions(ledger, steady_seconds=5, beat_seconds=0.2)
    assert found.keys() == BOUNDS.keys()
    assert all(counts for counts in found.values())
    assert beyond(found) == {}


@pytest.mark.exhaustive
def test_ten_thousand_runs_of_a_thousand_workers_take_no_more_operations_than_the_bounds(cache_dir):
    with simulated(10_000, 1000, Path(cache_dir)) as ledger:
        assert len(ledger.names["running"]) == 1000
        found = occasions(ledger, steady_seconds=65)
    assert found.keys() == BOUNDS.keys()
    assert beyond(found) == {}


@pytest.mark.parametrize("size", [20, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_as_many_workers_as_runs_do_each_run_once_within_the_bounds(cache_dir, tmp_path, size):
    _, plan = requested(size, cache_dir, tmp_path / "runs")
    found = totals(whole_launch(plan, size))
    assert len(plan.runs) == size
    runs = [RunFolder(plan.runs_dir, name) for name in plan.runs]
    assert [(run.is_done, run.num_attempts) for run in runs] == [(True, 1)] * size
    assert 0 < found["a worker finds a run"] < BOUNDS["a worker finds a run"]
    assert 0 < found["a worker finds none"] < BOUNDS["a worker finds none"]
    assert 0 < found["board"] < BOUNDS["board, a later update"]
    assert 0 < found["status"] < BOUNDS["status"]
