import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sweeps import slots

SIT = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from sweeps import slots
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

    def sit_down(threads):
        command = [sys.executable, "-c", SIT, str(tmp_path), str(threads)]
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


def test_every_worker_has_a_gpu_of_its_own(tiny, tmp_path, monkeypatch):
    """The cards are simulated; which one a process takes is what torch is told."""
    monkeypatch.setattr(slots.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(slots, "num_cores", lambda: 8)
    monkeypatch.setattr(slots, "num_gpus", lambda: 2)
    told = []
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    run = replace(tiny, device="cuda", threads=2)
    with slots.seated(run) as first, slots.seated(run) as second, slots.seated(run) as third:
        assert [first, second, third] == [True, True, False]
    assert told == [0, 1]
    with slots.seated(tiny) as seated:
        assert seated
    assert told == [0, 1], "a run on the CPU asks for no card"
