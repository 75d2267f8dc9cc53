import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aimv2.sweeps import launch
from tests.helpers.sweeps import small_sweep

LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"


@pytest.fixture(autouse=True)
def own_slots(tmp_path_factory, monkeypatch):
    """Give a test's workers their own slots, so that they never wait for other processes on this machine."""
    folder = str(tmp_path_factory.mktemp("slots"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


@pytest.fixture
def words_of():
    """Return the function that gives the arguments of a small launch, from the data cache and further arguments."""
    return small_sweep


@pytest.fixture
def here(cache_dir, tmp_path, monkeypatch, capsys, words_of):
    """Launch in this process; return the exit status and the output."""
    monkeypatch.chdir(tmp_path)

    def run(*more):
        status = launch.main(words_of(cache_dir, "executor=debug", *more))
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return status, shown.out, shown.err

    return run


@pytest.fixture
def started(cache_dir, tmp_path, words_of):
    """Start a launch as a process, which is killed with its workers at the end of the test."""
    processes = []

    def start(*more):
        process = subprocess.Popen(
            [sys.executable, str(LAUNCH), *words_of(cache_dir, *more)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
