"""Ranks that a process starts, as rank 0, and their end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from aimv2.base.errors import RunFailedError
from aimv2.training.distributed import GIVEN, calls, leading, place
from aimv2.training.local_ranks import local_ranks

ROOT = Path(__file__).parents[3]
RANK_0 = """
import pickle, sys, time
config, follow = pickle.loads(bytes.fromhex(sys.argv[1]))
from aimv2.training.local_ranks import local_ranks
with local_ranks(config, follow):
    time.sleep(600)
"""


def wait_to_be_dismissed(config, folder, interrupts):
    """Write this rank's place to a file, and wait for the end."""
    rank = place(config)
    (folder / f"{rank}.part").write_text(f"{os.environ['LOCAL_RANK']} {os.environ['MASTER_ADDR']}")
    (folder / f"{rank}.part").rename(folder / str(rank))
    for _ in calls():
        raise AssertionError("nothing is to be done")


def wait_for(folder, names):
    while {path.name for path in folder.iterdir()} != names:
        time.sleep(0.05)


@pytest.fixture
def four(tiny):
    return replace(tiny, ranks=4)


@pytest.mark.parametrize(("ranks", "launched"), [(1, {}), (2, {"WORLD_SIZE": "2"})])
def test_no_process_is_started_for_one_rank_or_beside_a_launcher(tiny, monkeypatch, ranks, launched):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with local_ranks(replace(tiny, ranks=ranks), lambda interrupts: None):
        assert multiprocessing.active_children() == []
        assert dict(os.environ) == before


def test_ranks_have_their_numbers_and_gpus_and_a_store_of_this_machine(four, tmp_path):
    with local_ranks(four, partial(wait_to_be_dismissed, four, tmp_path), gpus=(4, 5, 6, 7)):
        assert place(four) == 0
        assert os.environ["LOCAL_RANK"] == "4"
        wait_for(tmp_path, {"1", "2", "3"})
        processes = multiprocessing.active_children()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "1": "5 127.0.0.1",
        "2": "6 127.0.0.1",
        "3": "7 127.0.0.1",
    }
    assert [process.exitcode for process in processes] == [0, 0, 0], "they are dismissed"
    assert not {*GIVEN, "LOCAL_RANK"} & {*os.environ}


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_rank_that_ends_before_its_work_is_not_waited_for(four, tmp_path, number):
    with local_ranks(four, partial(wait_to_be_dismissed, four, tmp_path)):
        wait_for(tmp_path, {"1", "2", "3"})
        processes = multiprocessing.active_children()
        os.kill(processes[1].pid, number)
        with pytest.raises(RunFailedError, match="another rank ended before the work began"), leading(four):
            pytest.fail("the work began")
    assert not any(process.is_alive() for process in processes)


@pytest.mark.exhaustive
def test_ranks_end_with_a_rank_0_that_is_killed(four, tmp_path):
    given = multiprocessing.reduction.ForkingPickler.dumps((four, partial(wait_to_be_dismissed, four, tmp_path)))
    command = [sys.executable, "-c", RANK_0, bytes(given).hex()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for(tmp_path, {"1", "2", "3"})
        process.kill()
        assert b"Traceback" not in process.stdout.read()
