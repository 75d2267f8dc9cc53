"""Leases acquired by many processes at once, and leases whose holder dies."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest

from aimv2.runs.lease import (
    GRACE_SECONDS,
    HEARTBEAT_SECONDS,
    LeaseLostError,
    Watch,
    acquire,
    has_ended,
    holder,
    is_held,
)


def try_to_acquire(folders, barrier, results):
    for folder in folders:
        barrier.wait()
        got = acquire(folder)
        results.put((folder.name, None if got is None else got.number))
        barrier.wait()  # the holder lives until all have tried


def test_acquire_gives_a_run_to_one_of_many_processes(tmp_path):
    fork, num_processes = multiprocessing.get_context("fork"), 6
    folders = [tmp_path / str(number) for number in range(5)]
    barrier, results = fork.Barrier(num_processes), fork.Queue()
    processes = [fork.Process(target=try_to_acquire, args=(folders, barrier, results)) for _ in range(num_processes)]
    for process in processes:
        process.start()
    got = [results.get(timeout=60) for _ in range(num_processes * len(folders))]
    for process in processes:
        process.join()
    for folder in folders:
        assert sorted(n for name, n in got if name == folder.name and n is not None) == [1]


def test_acquire_refuses_a_held_run_and_takes_a_released_one(tmp_path):
    first = acquire(tmp_path)
    assert first is not None
    assert acquire(tmp_path) is None
    with first:
        assert acquire(tmp_path) is None
    assert not is_held(first.folder)
    second = acquire(tmp_path)
    assert second is not None
    assert second.number == 2


HOLD = """
import sys, time
from pathlib import Path
from aimv2.runs.lease import acquire
with acquire(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_lease_of_a_dead_process_expires_at_once(tmp_path, end):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline() == b"held\n"
    assert acquire(tmp_path) is None
    process.send_signal(end)
    process.wait()
    process.stdout.close()
    assert acquire(tmp_path).number == 2


class Clock:
    """A clock that a test sets, in seconds."""

    now = 0.0

    def __call__(self):
        return self.now


def beat(folder):
    path = folder / "heartbeat"
    os.truncate(path, path.stat().st_size + 1)


def watched(watch, clock, folder, seconds):
    """Return what a watch sees after looking once a second for so long."""
    for _ in range(round(seconds)):
        clock.now += 1
        sight = watch.sees(folder)
    return sight


@pytest.fixture
def first(tmp_path):
    """A lease that a process of another host holds."""
    held = acquire(tmp_path)
    (held.folder / "holder.json").write_text(json.dumps(holder(held.folder) | {"host": "elsewhere"}))
    return held


def test_a_lease_expires_once_its_heartbeat_was_watched_for_the_grace_period(first, tmp_path):
    clock = Clock()
    watch = Watch(9, clock)
    assert watch.sees(first.folder) == "unsure"
    assert watched(watch, clock, first.folder, 8) == "unsure"
    beat(first.folder)
    assert watch.sees(first.folder) == "alive"
    assert watched(watch, clock, first.folder, 8) == "alive"
    assert acquire(tmp_path, watch=watch) is None
    assert watched(watch, clock, first.folder, 1) == "dead"
    assert acquire(tmp_path) is None, "a process that has not watched it cannot know"
    assert acquire(tmp_path, watch=watch).number == 2
    beat(first.folder)
    assert watch.sees(first.folder) == "alive", "it was only asleep"


@pytest.mark.parametrize("seconds", [-86400, 86400])
def test_no_clock_is_compared_with_another(first, tmp_path, monkeypatch, seconds):
    """Clients of some file systems stamp files by their own clock; hosts' clocks differ by any amount."""
    clock = Clock()
    watch = Watch(now=clock)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + seconds)
    for number in range(20):
        clock.now += HEARTBEAT_SECONDS
        beat(first.folder)
        os.utime(first.folder / "heartbeat", (right() - seconds * number, right() - seconds * number))
        assert watch.sees(first.folder) != "dead"
        assert acquire(tmp_path, watch=watch) is None
    assert watched(watch, clock, first.folder, GRACE_SECONDS) == "dead"
    assert acquire(tmp_path, watch=watch).number == 2


def test_a_file_server_that_was_away_kills_nobody(first):
    """A look that was blocked for an hour cannot tell whether the heartbeat was blocked too."""
    clock = Clock()
    watch = Watch(now=clock)
    watch.sees(first.folder)
    clock.now += 3600
    assert watch.sees(first.folder) != "dead"
    beat(first.folder)
    assert watch.sees(first.folder) == "alive"


def test_a_folder_that_was_deleted_is_dead_and_a_missing_heartbeat_is_not(tmp_path):
    """Both happen while another process makes or prunes the folder."""
    clock = Clock()
    watch = Watch(now=clock)
    attempt = tmp_path / "attempts" / "0001"
    assert watch.sees(attempt) == "dead"
    attempt.mkdir(parents=True)
    assert watch.sees(attempt) == "unsure"
    assert watched(watch, clock, attempt, GRACE_SECONDS) == "dead"


def test_a_reused_process_id_and_a_folder_that_was_made_again_have_another_holder(tmp_path):
    watch = Watch()
    first = acquire(tmp_path)
    (first.folder / "holder.json").write_text(json.dumps(holder(first.folder) | {"process_start": "1"}))
    assert watch.sees(first.folder) == "dead"
    assert acquire(tmp_path).number == 2
    shutil.rmtree(tmp_path / "attempts")
    again = acquire(tmp_path, watch=watch)
    assert again.folder == first.folder
    assert watch.sees(again.folder) == "alive"


def test_watching_writes_nothing(first, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    tmp_path.chmod(0o555)
    first.folder.chmod(0o555)
    assert Watch().sees(first.folder) == "unsure"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_holder_makes_its_heartbeat_longer(tmp_path):
    with acquire(tmp_path, beat_seconds=0.01) as held:
        give_up = time.monotonic() + 60
        while (size := (held.folder / "heartbeat").stat().st_size) < 3 and time.monotonic() < give_up:
            time.sleep(0.01)
        assert size >= 3


def test_check_raises_once_a_later_attempt_or_a_result_exists(tmp_path):
    """A process that was believed dead may publish after another one has taken over its run."""
    first = acquire(tmp_path)
    first.check()
    first.release()
    second = acquire(tmp_path)
    with pytest.raises(LeaseLostError, match="taken over by a later attempt"):
        first.check()
    second.check()
    (tmp_path / "result.json").touch()
    with pytest.raises(LeaseLostError):
        second.check()


def test_process_that_proc_hides_has_not_ended(tmp_path, monkeypatch):
    """With hidepid, /proc hides the processes of other users."""
    process = holder(acquire(tmp_path).folder)
    assert not has_ended(process, start_of=lambda pid: None)
    monkeypatch.setattr(os, "kill", Mock(side_effect=PermissionError))
    assert not has_ended(process, start_of=lambda pid: None)
    monkeypatch.setattr(os, "kill", Mock(side_effect=ProcessLookupError))
    assert has_ended(process, start_of=lambda pid: None)
