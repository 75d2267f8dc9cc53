"""Leases acquired by many processes at once, and leases whose holder dies."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimv2.runs.lease import (
    GRACE_SECONDS,
    HEARTBEAT_SECONDS,
    LeaseLostError,
    Timing,
    acquire,
    has_ended,
    holder,
    is_held,
    latest_attempt,
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


def from_another_host(attempt):
    (attempt / "holder.json").write_text(json.dumps(holder(attempt) | {"host": "elsewhere"}))


def test_lease_expires_after_grace(tmp_path):
    timing = Timing(heartbeat_seconds=1, grace_seconds=5)
    first = acquire(tmp_path, timing=timing)
    from_another_host(first.folder)
    os.utime(first.folder / "heartbeat", (1000, 1000))
    assert is_held(first.folder, lambda folder: 1004.9, timing)
    assert acquire(tmp_path, clock=lambda folder: 1004.9, timing=timing) is None
    assert not is_held(first.folder, lambda folder: 1005.1, timing)
    assert acquire(tmp_path, clock=lambda folder: 1005.1, timing=timing).number == 2


@pytest.mark.parametrize("seconds", [-60, 60])
def test_lease_survives_a_host_clock_that_is_a_minute_off(tmp_path, monkeypatch, seconds):
    first = acquire(tmp_path)
    from_another_host(first.folder)
    old = time.time() - 2 * HEARTBEAT_SECONDS  # it has just missed a heartbeat
    os.utime(first.folder / "heartbeat", (old, old))
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + seconds)
    assert is_held(first.folder)
    assert acquire(tmp_path) is None
    old = right() - GRACE_SECONDS - 1
    os.utime(first.folder / "heartbeat", (old, old))
    assert acquire(tmp_path).number == 2, "the file system's clock decides"


def test_holder_touches_its_heartbeat(tmp_path):
    with acquire(tmp_path, timing=Timing(heartbeat_seconds=0.01)) as held:
        os.utime(held.folder / "heartbeat", (0, 0))
        give_up = time.monotonic() + 60
        while (held.folder / "heartbeat").stat().st_mtime == 0 and time.monotonic() < give_up:
            time.sleep(0.01)
        assert (held.folder / "heartbeat").stat().st_mtime > 0


def test_reused_process_id_is_not_taken_for_the_holder(tmp_path):
    first = acquire(tmp_path)
    (first.folder / "holder.json").write_text(json.dumps(holder(first.folder) | {"process_start": "1"}))
    assert acquire(tmp_path).number == 2


def test_check_raises_once_a_later_attempt_exists(tmp_path):
    first = acquire(tmp_path)
    first.check()
    first.release()
    acquire(tmp_path)
    with pytest.raises(LeaseLostError, match="taken over by a later attempt"):
        first.check()


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["acquire", "release", "die", "check"]), max_size=15))
def test_at_most_one_living_holder_in_any_sequence_of_events(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("run")
    holders = []  # only the last may be alive
    alive = False
    for event in events:
        if event == "acquire":
            got = acquire(folder)
            assert (got is None) == alive
            if got is not None:
                holders.append(got)
                alive = True
        elif event == "release" and alive:
            holders[-1].release()
            alive = False
        elif event == "die" and alive:
            from_another_host(holders[-1].folder)
            os.utime(holders[-1].folder / "heartbeat", (0, 0))
            alive = False
        elif event == "check":
            for earlier in holders[:-1]:
                with pytest.raises(LeaseLostError):
                    earlier.check()
            if holders:
                holders[-1].check()
    assert [lease.number for lease in holders] == list(range(1, len(holders) + 1))
    assert latest_attempt(folder) == (holders[-1].folder if holders else None)


def test_process_that_proc_hides_has_not_ended(tmp_path, monkeypatch):
    """With hidepid, /proc hides the processes of other users."""
    process = holder(acquire(tmp_path).folder)
    assert not has_ended(process, start_of=lambda pid: None)
    monkeypatch.setattr(os, "kill", Mock(side_effect=PermissionError))
    assert not has_ended(process, start_of=lambda pid: None)
    monkeypatch.setattr(os, "kill", Mock(side_effect=ProcessLookupError))
    assert has_ended(process, start_of=lambda pid: None)
