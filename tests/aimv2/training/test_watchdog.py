"""A process whose training hangs is ended by its watchdog."""

import faulthandler
import subprocess
import sys
from dataclasses import replace

import pytest

from aimv2.base.files import read_json, write_json
from aimv2.config.training_config import CheckpointConfig
from aimv2.run.execute import execute
from aimv2.runs.record import RunFolder
from aimv2.training.watchdog import Watchdog

HANGING_RUN = """
import functools, sys, threading
from pathlib import Path
from aimv2.run import execute
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.data.batches.training import TrainBatches
from aimv2.base.files import read_json
from aimv2.runs.record import RunFolder
from aimv2.training.watchdog import Watchdog

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
