"""Workers that are asked to stop."""

import multiprocessing
import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from aimv2.config.run_config import LoaderConfig
from aimv2.config.signature import signature
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder
from sweeps.worker import Task, work


@pytest.fixture
def tasks(tiny):
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    return [Task(signature(config), config, tries=0) for config in configs]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_makes_it_keep_a_checkpoint_and_hand_its_run_back(tasks, tmp_path, number):
    def stop(rows):
        if rows[-1]["step"] == 1:
            os.kill(os.getpid(), number)

    report = work(tasks, tmp_path, stop)
    assert report.signal is not None
    assert (report.done, report.failed, report.problem) == ([], [], "")
    stopped, untried = (RunFolder(tmp_path, task.name) for task in tasks)
    assert stopped.state() == "new"
    assert (stopped.path / "attempts/0001/checkpoint.safetensors").exists()
    assert untried.num_attempts == 0

    again = work(tasks, tmp_path)
    assert again.signal is None
    assert again.done == [task.name for task in tasks]
    assert list(stopped.metrics()["step"]) == [0, 1, 2]


def test_a_signal_to_all_processes_is_no_failure_of_its_loaders(tasks, tmp_path):
    """As a scheduler sends it."""
    config = replace(tasks[0].config, loader=LoaderConfig(num_workers=2))

    def stop(rows):
        if rows[-1]["step"] == 1:
            loaders = multiprocessing.active_children()
            assert len(loaders) == 2
            # From elsewhere: a loader process takes it otherwise from its parent.
            subprocess.run(["kill", *(str(process.pid) for process in loaders)], check=True)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGTERM)

    report = work([Task(signature(config), config, tries=0)], tmp_path, stop)
    assert (report.signal, report.failed, report.problem) == (signal.SIGTERM, [], "")
    run = RunFolder(tmp_path, signature(config))
    assert (run.state(), run.num_tries) == ("new", 0)
    assert (run.path / "attempts/0001/checkpoint.safetensors").exists()


def test_it_ends_in_good_order_before_its_time_does(tasks, tmp_path):
    minutes, started = 0.05, time.monotonic()

    def slow(rows):
        if rows[-1]["step"] == 1:
            time.sleep(max(0, started + 60 * minutes * 0.9 - time.monotonic()))

    report = work(tasks, tmp_path, slow, minutes)
    assert report.was_out_of_time
    assert report.signal is None
    assert time.monotonic() - started < 60 * minutes
    assert report.done == []
    run = RunFolder(tmp_path, tasks[0].name)
    assert (run.state(), run.num_attempts, run.num_tries) == ("new", 1, 0)
    assert tasks[0].is_open(tmp_path), "running out of time is no failed try"


@pytest.mark.parametrize(
    ("cause", "is_open"), [("node", [True, False]), ("out of memory", [False, False]), ("bug", [False, False])]
)
def test_what_a_node_fails_is_tried_once_more(tasks, tmp_path, cause, is_open):
    found, task = [], tasks[0]
    for _ in range(2):
        with RunFolder(tmp_path, task.name).acquire(task.config) as attempt:
            attempt.fail(Failure(cause, "a test"), "")
        found.append(task.is_open(tmp_path))
    assert found == is_open


def test_without_a_limit_its_time_never_ends(tasks, tmp_path):
    assert not work(tasks[:1], tmp_path).was_out_of_time
