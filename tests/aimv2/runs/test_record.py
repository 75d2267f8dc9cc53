import contextlib
import os
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from aimv2.base.errors import UsageError
from aimv2.runs.attempt import ITEMS
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry, add, read, remove
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.record import RunFolder, entries


def test_done_run_returns_what_was_written(run, tiny, finish, rows):
    finish(run, tiny)
    assert run.state() == "done"
    pd.testing.assert_frame_equal(run.metrics(), pd.DataFrame(rows))
    expected = pd.DataFrame({"metric": ["caption_loss"] * 2, "item": [2, 7], "total": [4, 2], "weight": [2, 2]})
    items = pd.read_parquet(run.file(ITEMS))
    found = items.astype({"metric": str, "total": int, "weight": int})
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert items.dtypes[["item", "total", "weight"]].map(str).tolist() == ["int64", "float32", "float32"]
    assert run.file("manifest.json").exists()
    assert run.acquire(tiny) is None


def test_state_follows_the_attempts(run, tiny, rows):
    assert run.state() == "new"
    with run.acquire(tiny) as attempt:
        assert run.state() == "running"
        assert run.rows() == []
        attempt.write_rows(rows)
        assert run.rows() == rows
        attempt.fail(Failure("not finite", "text_loss is nan at step 3"), "Traceback …")
        assert run.state() == "running"
    assert run.state() == "failed"
    assert run.failure() == Failure("not finite", "text_loss is nan at step 3")
    with run.acquire(tiny):
        assert run.state() == "running"
    assert run.state() == "new"
    assert run.failure().cause == "node", "it ended without recording a reason"
    assert run.num_attempts == 2


def test_attempts_without_progress_are_counted_from_the_latest(run, tiny):
    has_progress = [True, False, True, False, False, False, False]
    expected = [0, 1, 0, 1, 2, 3, 3]
    for progress, number in zip(has_progress, expected, strict=True):
        with contextlib.suppress(KeyboardInterrupt), run.acquire(tiny) as attempt:
            if progress:
                attempt.mark_progress()
            raise KeyboardInterrupt  # interruptions count too
        assert run.num_stalled() == number
    assert run.num_stalled(after=6) == 1
    assert run.failure().cause == "node"
    assert "3 attempts in a row ended without a checkpoint" in run.failure().message
    assert "give workers more time" in run.failure().message


def test_the_index_follows_a_run(run, tiny, tmp_path, finish):
    def listed():
        assert entries(tmp_path) == {run.name: run.entry()}
        return [name.removeprefix(f"{run.name}.") for name in os.listdir(tmp_path / "index")]

    with run.acquire(tiny):
        assert listed() == ["running.0001"]
    assert listed() == ["idle.0001"]
    with run.acquire(tiny) as attempt:
        attempt.fail(Failure("out of memory", "a test"), "")
    assert listed() == ["failed.0002.out-of-memory"]
    finish(run, tiny)
    assert listed() == ["done.0003.2.5f0c1b7de1a2"]


def test_the_index_is_completed_from_the_run_folders(run, tiny, tmp_path, finish):
    finish(run, tiny)
    other = replace(tiny, seed=7)
    RunFolder(tmp_path, other.name).acquire(other)
    shutil.rmtree(tmp_path / "index")
    assert read(tmp_path) == {}
    found = entries(tmp_path)
    assert {name: entry.state for name, entry in found.items()} == {run.name: "done", other.name: "running"}
    assert read(tmp_path) == {}, "nothing is written unless it is asked for"
    assert entries(tmp_path, repair=True) == found == read(tmp_path)
    shutil.rmtree(run.path)  # as one repeats a run
    assert set(entries(tmp_path, repair=True)) == {other.name} == set(read(tmp_path))


def test_a_deleted_result_and_a_stale_entry_are_noticed_at_launch(run, tiny, tmp_path, finish):
    finish(run, tiny)
    (run.path / "result.json").unlink()
    assert entries(tmp_path)[run.name].state == "done", "a display trusts the index"
    assert entries(tmp_path, repair=True)[run.name].state == "idle" == read(tmp_path)[run.name].state
    finish(run, tiny)
    remove(tmp_path, run.name, read(tmp_path)[run.name])
    add(tmp_path, run.name, Entry("failed", 1, "bug"))
    assert entries(tmp_path, repair=True)[run.name].state == "done" == read(tmp_path)[run.name].state


def test_the_index_shows_a_published_run_as_done_whatever_came_after(run, tiny, tmp_path, rows, metrics):
    with contextlib.suppress(KeyboardInterrupt), run.acquire(tiny) as attempt:
        attempt.write_rows(rows)
        attempt.publish(metrics)
        attempt._entry = attempt._entry._replace(state="idle")  # as if interrupted before it was set
        raise KeyboardInterrupt
    assert read(tmp_path)[run.name].state == "done"


def test_acquire_names_a_folder_that_cannot_be_written(tmp_path, tiny):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UsageError, match=r"the run folder .* cannot be written"):
        RunFolder(tmp_path / "runs", tiny.name).acquire(tiny)


def test_an_obstacle_is_what_lies_in_the_place_of_the_folder(run, tiny, tmp_path):
    assert run.obstacle() == ""
    run.path.symlink_to(tmp_path / "nowhere")
    assert run.obstacle() == f"{run.path} is no folder that can be written; remove it or change its permissions"
    run.path.unlink()
    run.path.write_text("in the way")
    assert run.obstacle().startswith(str(run.path))
    run.path.unlink()
    with run.acquire(tiny):
        assert run.obstacle() == ""


def test_broken_record_is_named(run, tiny, finish):
    finish(run, tiny)
    run.file("metrics.parquet").write_text("no parquet")
    with pytest.raises(UsageError, match=r"metrics\.parquet cannot be read; delete .* to repeat the run"):
        run.metrics()
    for content, message in (
        ("{", "is not the result of a run"),
        ("null", "is not the result of a run"),
        ("[]", "is not the result of a run"),
        ('{"attempt": 1, "metrics": {}}', "is not the result of a run"),
        ('{"layout_version": 0, "attempt": 1, "metrics": {}}', "has layout 0 and this version reads layout 2"),
    ):
        (run.path / "result.json").write_text(content)
        with pytest.raises(UsageError, match=rf"{re.escape(str(run.path))}.* {message}"):
            run.result()
        assert ("has layout" in message) == (run.problem() == "")


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"host": 3}'])
def test_heartbeat_decides_when_the_holder_file_is_broken(run, tiny, content):
    attempt = run.acquire(tiny)
    (attempt.folder / "holder.json").write_text(content)
    assert run.state() == "running"
    now = [0.0]
    watch = Watch(now=lambda: now[0])
    assert run.acquire(tiny, watch=watch) is None
    os.utime(attempt.folder / "heartbeat", (0, 0))
    assert run.state() == "new"
    assert run.acquire(tiny, watch=watch) is None
    for _ in range(2):
        now[0] += GRACE_SECONDS / 3
        assert run.acquire(tiny, watch=watch) is None
    now[0] += GRACE_SECONDS / 3
    assert run.acquire(tiny, watch=watch) is not None


@pytest.mark.parametrize("broken", [b"[1]\n", b"\xff\n", b"{\n"])
def test_broken_rows_are_left_out(run, tiny, broken):
    with run.acquire(tiny) as attempt:
        (attempt.folder / "metrics.jsonl").write_bytes(broken)
        assert run.rows() == []
