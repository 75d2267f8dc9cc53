"""Claims by many processes at once, and what becomes of a dead holder's run."""

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

from aimv2.runs import lease
from aimv2.runs.lease import LeaseLostError, acquire, is_held, latest_attempt


def try_to_claim(folder, barrier, results):
    barrier.wait()
    got = acquire(folder)
    results.put(None if got is None else got.number)
    barrier.wait()  # the holder lives until all have tried


def test_of_many_processes_one_gets_the_run(tmp_path):
    spawn = multiprocessing.get_context("fork")
    for round_number in range(10):
        folder = tmp_path / str(round_number)
        barrier, results = spawn.Barrier(8), spawn.Queue()
        processes = [spawn.Process(target=try_to_claim, args=(folder, barrier, results)) for _ in range(8)]
        for process in processes:
            process.start()
        numbers = [results.get(timeout=30) for _ in processes]
        for process in processes:
            process.join()
        assert sorted(number for number in numbers if number is not None) == [1]


def test_a_held_run_is_not_given_twice_and_a_released_one_is(tmp_path):
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
def test_the_run_of_a_process_that_died_is_free_at_once(tmp_path, end):
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
    holder = json.loads((attempt / "holder.json").read_text())
    (attempt / "holder.json").write_text(json.dumps(holder | {"host": "elsewhere"}))


def test_another_hosts_run_is_free_when_its_heartbeat_is_old(tmp_path):
    first = acquire(tmp_path)
    from_another_host(first.folder)
    assert acquire(tmp_path) is None
    old = time.time() - lease.GRACE_SECONDS - 1
    os.utime(first.folder / "heartbeat", (old, old))
    assert acquire(tmp_path).number == 2


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_host_whose_clock_is_wrong_by_a_minute_takes_nobody_for_dead(tmp_path, monkeypatch, seconds):
    first = acquire(tmp_path)
    from_another_host(first.folder)
    old = time.time() - 2 * lease.HEARTBEAT_SECONDS  # it has just missed a beat
    os.utime(first.folder / "heartbeat", (old, old))
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + seconds)
    assert is_held(first.folder)
    assert acquire(tmp_path) is None
    old = right() - lease.GRACE_SECONDS - 1
    os.utime(first.folder / "heartbeat", (old, old))
    assert acquire(tmp_path).number == 2, "the file system's clock decides"


def test_a_holder_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    with acquire(tmp_path) as held:
        old = time.time() - 1000
        os.utime(held.folder / "heartbeat", (old, old))
        time.sleep(0.5)
        assert (held.folder / "heartbeat").stat().st_mtime > old + 500


def test_a_process_number_used_again_is_not_taken_for_the_holder(tmp_path):
    first = acquire(tmp_path)
    holder = json.loads((first.folder / "holder.json").read_text())
    (first.folder / "holder.json").write_text(json.dumps(holder | {"process_start": "1"}))
    assert acquire(tmp_path).number == 2


def test_a_holder_that_was_taken_over_learns_of_it(tmp_path):
    first = acquire(tmp_path)
    first.check()
    first.release()
    acquire(tmp_path)
    with pytest.raises(LeaseLostError, match="taken over by a later attempt"):
        first.check()


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["acquire", "release", "die", "check"]), max_size=15))
def test_at_most_one_living_holder_whatever_happens(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("run")
    holders = []  # of those, only the last may be alive
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
            for holder in holders[:-1]:
                with pytest.raises(LeaseLostError):
                    holder.check()
            if holders:
                holders[-1].check()
    assert [holder.number for holder in holders] == list(range(1, len(holders) + 1))
    assert latest_attempt(folder) == (holders[-1].folder if holders else None)


def test_a_holder_that_proc_hides_is_not_taken_for_dead(tmp_path, monkeypatch):
    """As with hidepid, where another user's process has no /proc/PID."""
    held = acquire(tmp_path)
    monkeypatch.setattr("aimv2.runs.lease._process_start", lambda pid: None)
    assert is_held(held.folder)
    monkeypatch.setattr(os, "kill", Mock(side_effect=PermissionError))
    assert is_held(held.folder)
    monkeypatch.setattr(os, "kill", Mock(side_effect=ProcessLookupError))
    assert not is_held(held.folder)
