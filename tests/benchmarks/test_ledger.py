"""The counts that the benchmark of the ledger rests on."""

import os
import shutil

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
