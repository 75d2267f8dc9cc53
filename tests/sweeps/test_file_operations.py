"""The bounds on file operations, and the counts on which they rest."""

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.ledger import BOUNDS, counted, occasions, simulated


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
            os.link(folder / "file", folder / "link")
            (folder / "link").rename(folder / "renamed")
            os.truncate(folder / "file", 3)
            (folder / "renamed").unlink()
            assert sorted(os.listdir(folder)) == ["file", "one"]
    (inside / "later").mkdir()
    assert counts == {
        "make": 2, "stat": 1, "open": 3, "sync": 1, "rename": 1, "touch": 1, "remove": 1, "list": 1,
    }  # fmt: skip


def test_a_deleted_tree_is_counted(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    with counted(tmp_path) as counts:
        shutil.rmtree(tmp_path / "a")
    assert counts["remove"] == 3


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("num_runs", "num_workers", "seconds", "beat_seconds"), [(50, 10, 5, 0.2), (10_000, 1000, 65, 10)]
)
def test_runs_and_workers_take_no_more_operations_than_the_bounds(
    cache_dir, num_runs, num_workers, seconds, beat_seconds
):
    with simulated(num_runs, num_workers, Path(cache_dir)) as ledger:
        assert len(ledger.names["running"]) == num_workers
        counts = occasions(ledger, seconds, beat_seconds)
    operations = {occasion: sum(by_kind.values()) for occasion, by_kind in counts.items()}
    assert operations.keys() == BOUNDS.keys()
    assert {occasion: number for occasion, number in operations.items() if not 0 < number < BOUNDS[occasion]} == {}
