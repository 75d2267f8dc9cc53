"""What an attempt records, and its publication."""

import errno
import json
import os
import re
import threading

import pytest

from aimv2.base.errors import RunFailedError
from aimv2.base.files import write_json
from aimv2.definitions.metrics import Metric
from aimv2.runs.attempt import LAYOUT_VERSION, attempted
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.record import RunFolder
from tests.helpers.other_model import Mean


def test_layout_is_pinned(run, tiny, finish):
    """Analysis reads stored runs by this layout. If it must change, raise LAYOUT_VERSION and read the old one too."""
    finish(run, tiny)
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    files = {re.sub(r"(events.out.tfevents).*", r"\1", name) for name in names}  # TensorBoard adds time and host
    attempt = {
        "holder.json",
        "heartbeat",
        "released",
        "manifest.json",
        "metrics.jsonl",
        "metrics.parquet",
        "items.parquet",
        "result.json",
        "tensorboard/events.out.tfevents",
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
    assert json.loads((run.path / "config.json").read_text()) == tiny.to_dict()


def test_publish_refuses_an_attempt_that_was_taken_over(run, tiny, finish, rows):
    """A process sleeps past the grace period, another takes over, the first wakes up."""
    sleeper = run.acquire(tiny)
    with sleeper:
        sleeper.write_rows(rows)
        (sleeper.folder / "released").touch()  # as if its heartbeat had stopped
        finish(run, tiny)
        before = (run.path / "result.json").read_bytes()
        with pytest.raises(LeaseLostError):
            sleeper.publish({"caption_loss": Metric(9.9, "nats/token", "stale")}, train_flops=0)
    assert (run.path / "result.json").read_bytes() == before
    assert run.result()["attempt"] == 2


def test_publish_never_replaces_a_result(run, tiny, metrics, rows):
    successor = None
    with run.acquire(tiny) as first:
        first.write_rows(rows)
        (first.folder / "released").touch()
        successor = run.acquire(tiny)
        with successor:
            successor.write_rows(rows)
            # The first passed its check just before the successor acquired the run: its link is created now.
            write_json(first.folder / "result.json", {"layout_version": LAYOUT_VERSION, "attempt": 1, "metrics": {}})
            (run.path / "result.json").hardlink_to(first.folder / "result.json")
            with pytest.raises(LeaseLostError):
                successor.publish(metrics, train_flops=0)
            with pytest.raises(LeaseLostError):
                successor.sync_rows()  # it ends before hours of training
    assert run.result()["attempt"] == 1


def test_a_link_that_was_made_and_reported_as_existing_is_ones_own(run, tiny, monkeypatch, finish):
    """NFS may repeat a request whose answer was lost."""

    def link(source, target):
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    real = os.link
    monkeypatch.setattr(os, "link", link)
    finish(run, tiny)
    assert run.result()["attempt"] == 1


def test_metrics_of_an_untrained_run_are_empty(run, tiny, metrics):
    with run.acquire(tiny) as attempt:
        attempt.publish(metrics, train_flops=0)
    assert run.metrics().empty


def test_write_rows_raises_after_the_lease_is_lost(run, tiny, finish, rows):
    with run.acquire(tiny) as sleeper:
        (sleeper.folder / "released").touch()
        finish(run, tiny)
        with pytest.raises(LeaseLostError):
            sleeper.write_rows(rows)


def test_full_disk_still_releases_the_lease(run, tiny, rows):
    beating = threading.active_count()
    attempt = run.acquire(tiny)
    (attempt.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"), attempt:
        attempt.write_rows(rows)
    assert threading.active_count() == beating
    assert run.state() == "new"


@pytest.fixture
def attempt(tmp_path):
    return RunFolder(tmp_path, Mean().name).acquire(Mean())


def raising(error):
    def work():
        raise error

    return work


def test_what_ends_well_is_no_failure(attempt):
    done = []
    assert attempted(attempt, lambda: done.append(1)) is None
    assert done == [1]


def test_an_error_is_recorded_with_its_traceback(attempt):
    failure = attempted(attempt, raising(RunFailedError("not finite", "the loss is nan")))
    recorded = RunFolder(attempt.run.parent, attempt.run.name).failure()
    assert (failure.cause, failure.message) == ("not finite", "the loss is nan")
    assert recorded == failure
    assert "RunFailedError" in recorded.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LeaseLostError("lease lost", "taken")])
def test_a_run_that_is_left_is_no_failure(attempt, error):
    with pytest.raises(type(error)):
        attempted(attempt, raising(error))
    assert not (attempt.folder / "failure.json").exists()


def test_a_folder_that_cannot_be_written_is_a_failure_without_a_record(attempt):
    attempt.folder.joinpath("metrics.jsonl").mkdir()
    failure = attempted(attempt, lambda: None)
    assert failure.cause == "node"
    assert not (attempt.folder / "failure.json").exists()
