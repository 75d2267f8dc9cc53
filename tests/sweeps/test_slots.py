import subprocess
import sys

import pytest

from sweeps import slots

SIT = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from sweeps.slots import seat
with seat(2) as seated:
    print(seated, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.setattr(slots.tempfile, "tempdir", str(tmp_path))
    started = []

    def sit_down():
        process = subprocess.Popen([sys.executable, "-c", SIT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip() == "True"

    yield sit_down
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_no_more_processes_sit_than_there_are_seats(room):
    first, seated = room()
    assert seated
    assert room()[1]
    assert not room()[1]
    with slots.seat(2) as mine:
        assert not mine
    first.kill()  # however it ends, its seat is free
    first.wait()
    with slots.seat(2) as mine:
        assert mine


def test_a_seat_is_free_again_after_its_context(room):
    for _ in range(3):
        with slots.seat(1) as mine:
            assert mine
