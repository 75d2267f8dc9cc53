import faulthandler
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import read_json, write_json
from aimv2.base.processes import IN_FLIGHT, Watchdog, in_processes, in_threads
from aimv2.config.training_config import CheckpointConfig
from aimv2.run.execute import execute
from aimv2.runs.record import RunFolder


def divide(numerator, number):
    if number is None:
        os.kill(os.getpid(), signal.SIGKILL)
    if not number:
        raise UsageError("zero is not allowed")
    return numerator // number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order_and_from_so_many_processes(workers):
    numbers = range(1, 4 * IN_FLIGHT)
    results, processes = zip(*in_processes(partial(divide, 720), numbers, workers, "divides"), strict=True)
    assert list(results) == [720 // number for number in numbers]
    assert len(set(processes) - {os.getpid()}) == (0 if workers == 1 else len(set(processes)))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised(workers):
    with pytest.raises(UsageError, match="zero is not allowed"):
        list(in_processes(partial(divide, 720), [1, 0, *range(1, 100)], workers, "divides"))


def test_a_killed_process_is_one_sentence():
    with pytest.raises(RunFailedError, match=r"a process that divides was killed, .* fewer workers need less"):
        list(in_processes(partial(divide, 720), [1, None, 2], 2, "divides"))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_give_results_in_order(threads):
    assert list(in_threads(lambda number: (number * 7) % 11, range(50), threads)) == [n * 7 % 11 for n in range(50)]


def test_threads_work_at_the_same_time():
    """Each task waits until all three are at work."""
    together = threading.Barrier(3)
    assert len(set(in_threads(lambda _: (together.wait(60), threading.get_ident())[1], range(3), 3))) == 3


def test_an_error_in_a_thread_is_raised_and_ends_the_rest():
    begun = []

    def fail(number):
        begun.append(number)
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        list(in_threads(fail, range(1000), 2))
    assert len(begun) < 1000


HANGING_RUN = """
import functools, sys, threading
from pathlib import Path
from aimv2.run import execute
from aimv2.data.batches.training import TrainBatches
from aimv2.base.files import read_json
from aimv2.runs.record import RunFolder
from aimv2.base.processes import Watchdog

original = TrainBatches.part

def hanging(batches, step, images):
    if step == 4:
        threading.Event().wait()
    return original(batches, step, images)

TrainBatches.part = hanging
execute.Watchdog = functools.partial(Watchdog, min_seconds=1.0)
config = RunConfig.from_dict(read_json(Path("config.json")))
execute.execute(RunFolder(Path("runs"), config.name).acquire(config), config)
"""


@pytest.mark.exhaustive
def test_run_that_hangs_is_ended_and_resumes(tiny, with_samples, tmp_path):
    """Only steps with a checkpoint before them are watched, so a stall of the machine changes nothing here."""
    checkpoints = CheckpointConfig(every_seconds=1e-9, watchdog_factor=2)
    config = replace(with_samples(tiny, 6 * tiny.budget.batch_size), checkpoint=checkpoints)
    write_json(tmp_path / "config.json", config.to_dict())
    hung = subprocess.run([sys.executable, "-c", HANGING_RUN], cwd=tmp_path, capture_output=True, text=True)
    assert hung.returncode == 1, hung.stderr
    assert "Timeout (0:00:0" in hung.stderr
    assert "Thread 0x" in hung.stderr
    run = RunFolder(tmp_path / "runs", config.name)
    assert not run.is_done
    assert execute(run.acquire(config), config, evaluate=lambda *data: {}) is None
    assert read_json(run.file("manifest.json"))["resumed"]["step"] >= 1


@pytest.fixture
def armed(monkeypatch):
    """The seconds that the timer was set to, and None where it was cancelled."""
    calls = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit: calls.append(seconds))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append(None))
    return calls


def test_a_step_has_many_times_the_longest_one_before(armed):
    ends = [0, 1, 2, 3, 11, 12]  # after two steps of the warm-up; the longest takes 8 s
    starts = iter([time for end in ends for time in (end, end)][1:])  # read at the end of a step and at the next start
    with Watchdog(10, warm_up_steps=2, min_seconds=60, clock=lambda: next(starts, 13)) as watchdog:
        for _ in ends:
            watchdog.step()
    assert armed == [None, None, 60, None, 60, None, 80, None, 80, None]


def test_nothing_is_watched_while_a_checkpoint_is_saved(armed):
    now = 0
    with Watchdog(10, min_seconds=1, clock=lambda: now) as watchdog:
        watchdog.step()
        with watchdog.paused():
            assert armed == [1, None]
            now = 1000
        assert armed == [1, None]
        watchdog.step()
    assert armed == [1, None, 1, None], "the save is no step"


def test_without_a_factor_there_is_no_timer(armed):
    with Watchdog() as watchdog:
        watchdog.step()
        with watchdog.paused():
            watchdog.step()
    assert armed == []
