import contextlib
import errno
import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aimv2.config.run_config import to_dict
from aimv2.config.signature import signature
from aimv2.errors import UsageError
from aimv2.evaluation.items import Items
from aimv2.evaluation.metrics import Metric
from aimv2.runs.failure import Failure
from aimv2.runs.files import write_json
from aimv2.runs.index import read
from aimv2.runs.lease import GRACE_SECONDS, LeaseLostError, Watch
from aimv2.runs.record import LAYOUT_VERSION, RunFolder, entries

ITEMS = Items.of(np.array([7, 2, 7]), np.array([1.0, 4.0, 1.0]), np.array([1, 2, 1]))
METRICS = {
    "caption_loss": Metric(1.5, "nats/token", "four pairs", items=ITEMS),
    "probe_digits": Metric(0.9, "accuracy", "ten digits", "doubtful"),
}
ROWS = [{"step": i, "samples": 8 * i, "train_flops": i, "seconds": float(i), "text_loss": 1 / i} for i in (1, 2)]


@pytest.fixture
def run(tmp_path, tiny):
    return RunFolder(tmp_path, signature(tiny))


def finish(run, config):
    with run.acquire(config) as attempt:
        attempt.write_manifest({"host": "here", "code": "5f0c1b7de1a2"})
        attempt.write_rows(ROWS)
        attempt.publish(METRICS, train_flops=2)


def test_layout_is_pinned(run, tiny):
    """Analysis reads stored runs by this layout. If it must change, raise LAYOUT_VERSION and read the old one too."""
    finish(run, tiny)
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    attempt = {
        "holder.json",
        "heartbeat",
        "released",
        "manifest.json",
        "metrics.jsonl",
        "metrics.parquet",
        "items.parquet",
        "result.json",
    }
    assert files == {"config.json", "result.json"} | {f"attempts/0001/{name}" for name in attempt}
    result = json.loads((run.path / "result.json").read_text())
    assert LAYOUT_VERSION == 2
    assert set(result) == {
        "layout_version", "signature", "attempt", "metrics", "seconds", "cpu_seconds", "train_flops",
    }  # fmt: skip
    assert result["metrics"] == {
        "caption_loss": {"value": 1.5, "unit": "nats/token", "evaluation": "four pairs", "warning": ""},
        "probe_digits": {"value": 0.9, "unit": "accuracy", "evaluation": "ten digits", "warning": "doubtful"},
    }
    assert json.loads((run.path / "config.json").read_text()) == to_dict(tiny)


def test_done_run_returns_what_was_written(run, tiny):
    finish(run, tiny)
    assert run.state() == "done"
    pd.testing.assert_frame_equal(run.metrics(), pd.DataFrame(ROWS))
    expected = pd.DataFrame({"metric": ["caption_loss"] * 2, "item": [2, 7], "total": [4, 2], "weight": [2, 2]})
    items = run.items().astype({"metric": str, "total": int, "weight": int})
    pd.testing.assert_frame_equal(items, expected, check_dtype=False)
    assert run.items().dtypes[["item", "total", "weight"]].map(str).tolist() == ["int64", "float32", "float32"]
    assert run.file("manifest.json").exists()


def test_acquire_refuses_a_done_run(run, tiny):
    finish(run, tiny)
    assert run.acquire(tiny) is None


def test_state_follows_the_attempts(run, tiny):
    assert run.state() == "new"
    with run.acquire(tiny) as attempt:
        assert run.state() == "running"
        assert run.last_row() == {}
        attempt.write_rows(ROWS)
        assert run.last_row() == ROWS[-1]
        attempt.fail(Failure("not finite", "text_loss is nan at step 3"), "Traceback …")
        assert run.state() == "running"
    assert run.state() == "failed"
    assert run.failure() == Failure("not finite", "text_loss is nan at step 3")
    with run.acquire(tiny):
        assert run.state() == "running"
    assert run.state() == "new"
    assert run.failure().cause == "node", "it ended without recording a reason"
    assert run.num_attempts == 2


def test_publish_refuses_an_attempt_that_was_taken_over(run, tiny):
    """A process sleeps past the grace period, another takes over, the first wakes up."""
    sleeper = run.acquire(tiny)
    with sleeper:
        sleeper.write_rows(ROWS)
        (sleeper.folder / "released").touch()  # as if its heartbeat had stopped
        finish(run, tiny)
        before = (run.path / "result.json").read_bytes()
        with pytest.raises(LeaseLostError):
            sleeper.publish({"caption_loss": Metric(9.9, "nats/token", "stale")}, train_flops=0)
    assert (run.path / "result.json").read_bytes() == before
    assert run.result()["attempt"] == 2


def test_publish_never_replaces_a_result(run, tiny):
    """The new owner must not replace a result that was published while it worked."""
    successor = None
    with run.acquire(tiny) as first:
        first.write_rows(ROWS)
        (first.folder / "released").touch()
        successor = run.acquire(tiny)
        with successor:
            successor.write_rows(ROWS)
            # The first passed its check just before the successor acquired the run: its link is created now.
            write_json(first.folder / "result.json", {"layout_version": LAYOUT_VERSION, "attempt": 1, "metrics": {}})
            (run.path / "result.json").hardlink_to(first.folder / "result.json")
            with pytest.raises(LeaseLostError):
                successor.publish(METRICS, train_flops=0)
            with pytest.raises(LeaseLostError):
                successor.sync_rows()  # it ends before hours of training
    assert run.result()["attempt"] == 1


def test_a_link_that_was_made_and_reported_as_existing_is_ones_own(run, tiny, monkeypatch):
    """NFS may repeat a request whose answer was lost."""

    def link(source, target):
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    real = os.link
    monkeypatch.setattr(os, "link", link)
    finish(run, tiny)
    assert run.result()["attempt"] == 1


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


def test_the_index_follows_a_run(run, tiny, tmp_path):
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


def test_the_index_is_completed_from_the_run_folders(run, tiny, tmp_path):
    finish(run, tiny)
    other = replace(tiny, seed=7)
    RunFolder(tmp_path, signature(other)).acquire(other)
    shutil.rmtree(tmp_path / "index")
    assert read(tmp_path) == {}
    found = entries(tmp_path)
    assert {name: entry.state for name, entry in found.items()} == {run.name: "done", signature(other): "running"}
    assert read(tmp_path) == {}, "nothing is written unless it is asked for"
    assert entries(tmp_path, repair=True) == found == read(tmp_path)
    shutil.rmtree(run.path)  # as one repeats a run
    assert set(entries(tmp_path, repair=True)) == {signature(other)} == set(read(tmp_path))


def test_metrics_of_an_untrained_run_are_empty(run, tiny):
    with run.acquire(tiny) as attempt:
        attempt.publish(METRICS, train_flops=0)
    assert run.metrics().empty


def test_acquire_names_a_folder_that_cannot_be_written(tmp_path, tiny):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UsageError, match=r"the run folder .* cannot be written"):
        RunFolder(tmp_path / "runs", signature(tiny)).acquire(tiny)


def test_broken_record_is_named(run, tiny):
    finish(run, tiny)
    run.file("metrics.parquet").write_text("no parquet")
    with pytest.raises(UsageError, match=r"metrics\.parquet cannot be read; delete .* to repeat the run"):
        run.metrics()
    for content, message in (
        ("{", "cannot be read"),
        ("{}", "not the result of a run"),
        ("null", "not the result of a run"),
    ):
        (run.path / "result.json").write_text(content)
        with pytest.raises(UsageError, match=rf"result\.json .*{message}|result\.json {message}"):
            run.result()


def test_write_rows_raises_after_the_lease_is_lost(run, tiny):
    with run.acquire(tiny) as sleeper:
        (sleeper.folder / "released").touch()
        finish(run, tiny)
        with pytest.raises(LeaseLostError):
            sleeper.write_rows(ROWS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layout_version": 0, "attempt": 1, "metrics": {}}, "has layout 0 and this version reads layout 2"),
        ({"attempt": 1, "metrics": {}}, "is not the result of a run"),
        ([], "is not the result of a run"),
    ],
)
def test_result_refuses_another_layout_and_non_results(run, values, message):
    run.path.mkdir(parents=True)
    write_json(run.path / "result.json", values)
    with pytest.raises(UsageError, match=message):
        run.result()


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
    now[0] = GRACE_SECONDS
    assert run.acquire(tiny, watch=watch) is not None


def test_full_disk_still_releases_the_lease(run, tiny):
    beating = threading.active_count()
    attempt = run.acquire(tiny)
    (attempt.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"), attempt:
        attempt.write_rows(ROWS)
    assert threading.active_count() == beating
    assert run.state() == "new"


@pytest.mark.parametrize("broken", [b"[1]\n", b"\xff\n", b"{\n"])
def test_broken_rows_are_left_out(run, tiny, broken):
    with run.acquire(tiny) as attempt:
        (attempt.folder / "metrics.jsonl").write_bytes(broken)
        assert run.last_row() == {}
        assert run.rows() == []
