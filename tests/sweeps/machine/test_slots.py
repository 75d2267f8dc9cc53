import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sweeps.machine import slots

GB = 10**9
TAKE = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from sweeps.machine import slots
slots.available_memory = lambda: 10 * 10**9  # nobody has taken yet what was promised
with slots.memory(int(sys.argv[2])) as is_free:
    print(is_free, flush=True)
    time.sleep(60)
"""
SIT = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from sweeps.machine import slots
slots.num_cores = lambda: 3
with slots.seats("core", int(sys.argv[2])) as numbers:
    print(bool(numbers), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A machine of three cores, and a way to seat processes there."""
    monkeypatch.setattr(slots.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(slots, "num_cores", lambda: 3)
    started = []

    def sit_down(number, script=SIT):
        command = [sys.executable, "-c", script, str(tmp_path), str(number)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip() == "True"

    yield sit_down
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_no_more_threads_sit_than_there_are_cores(room):
    first, seated = room(2)
    assert seated
    assert not room(2)[1]
    assert room(1)[1], "the one that found too few left them to others"
    with slots.seats("core", 1) as mine:
        assert not mine
    first.kill()  # however it ends, its seats are free
    first.wait()
    with slots.seats("core", 2) as mine:
        assert mine


def test_seats_are_free_again_after_their_context(room):
    for _ in range(3):
        with slots.seats("core", 3) as mine:
            assert mine


def no_memory():
    return 0


def test_every_worker_has_a_gpu_of_its_own(tiny, tmp_path, monkeypatch):
    """The cards are simulated; which one a process takes is what torch is told."""
    monkeypatch.setattr(slots.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(slots, "num_cores", lambda: 8)
    monkeypatch.setattr(slots, "num_gpus", lambda: 2)
    told = []
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    run = replace(tiny, device="cuda", threads=2)
    with (
        slots.seated(run, no_memory) as first,
        slots.seated(run, no_memory) as second,
        slots.seated(run, no_memory) as third,
    ):
        assert [first, second, third] == [True, True, False]
    assert told == [0, 1]
    with slots.seated(tiny, no_memory) as seated:
        assert seated
    assert told == [0, 1], "a run on the CPU asks for no card"


def test_memory_that_others_were_promised_is_not_free(room, monkeypatch):
    monkeypatch.setattr(slots, "available_memory", lambda: 10 * GB)
    monkeypatch.setattr(slots, "_resident", lambda pid: 0)
    first, is_free = room(7 * GB, TAKE)
    assert is_free
    assert not room(7 * GB, TAKE)[1]
    assert room(2 * GB, TAKE)[1], "the one that found too little was promised nothing"
    with slots.memory(2 * GB) as mine:
        assert not mine
    first.kill()  # however it ends, what it was promised is free
    first.wait()
    with slots.memory(2 * GB) as mine, slots.memory(5 * GB) as more, slots.memory(2 * GB) as too_much:
        assert (mine, more, too_much) == (True, True, False)
    with slots.memory(8 * GB) as mine:
        assert mine


def test_what_was_taken_is_not_owed_as_well(room, monkeypatch):
    """Of 7 GB that were promised 6 are taken, so the system says that 4 of 10 are free and 1 is still owed."""
    first, _ = room(7 * GB, TAKE)
    monkeypatch.setattr(slots, "available_memory", lambda: 4 * GB)
    monkeypatch.setattr(slots, "_resident", lambda pid: 6 * GB if pid == first.pid else 0)
    with slots.memory(int(3.1 * GB)) as mine:
        assert not mine
    with slots.memory(3 * GB) as mine:
        assert mine


def test_a_worker_without_memory_leaves_its_cores_to_others(tiny, room, monkeypatch):
    monkeypatch.setattr(slots, "available_memory", lambda: 10 * GB)
    monkeypatch.setattr(slots, "_resident", lambda pid: 0)
    with slots.seated(replace(tiny, threads=3), lambda: 11 * GB) as seated:
        assert not seated
    assert room(3)[1]


def test_a_process_has_memory_and_one_that_is_gone_has_none():
    assert 10**7 < slots._resident(os.getpid()) < 10**11
    assert slots._resident(2**31 - 1) == 0
