"""Processes as on a shared GPU; they train on the CPU."""

import os
import signal
import threading
from dataclasses import replace

import pytest

from aimv2.config.signature import signature
from aimv2.runs.record import RunFolder
from sweeps.active_launches import new_launch
from sweeps.executors.shared_gpu import work_in_processes
from sweeps.worker import Task, WorkerReport


@pytest.fixture
def tasks(tiny, pairs):
    """Two runs of two steps, whose data is rendered."""
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    return [Task(signature(config), config, tries=0) for config in configs]


@pytest.mark.exhaustive
def test_processes_share_the_runs_and_each_is_done_once(tasks, tmp_path):
    assert work_in_processes(2, tasks, tmp_path, takes_slots=False) == WorkerReport()
    for task in tasks:
        run = RunFolder(tmp_path, task.name)
        assert run.is_done
        assert run.num_attempts == 1


@pytest.mark.slow
def test_a_signal_makes_each_process_release_its_run_with_a_checkpoint(tasks, tmp_path):
    endless = [replace(task.config, budget=replace(task.config.budget, samples=8 * 10**6)) for task in tasks]
    tasks = [Task(signature(config), config, tries=0) for config in endless]
    runs = [RunFolder(tmp_path, task.name) for task in tasks]

    def signal_when_both_train():
        while not all(run.last_row().get("step") for run in runs):
            if is_over.wait(0.1):
                return
        os.kill(os.getpid(), signal.SIGUSR2)

    is_over = threading.Event()
    watcher = threading.Thread(target=signal_when_both_train)
    watcher.start()
    try:
        report = work_in_processes(2, tasks, tmp_path, takes_slots=False)
    finally:
        is_over.set()
        watcher.join()
    assert report == WorkerReport(signal=signal.SIGUSR2)
    for run in runs:
        assert (run.state(), run.num_tries) == ("new", 0)
        assert (run.path / "attempts/0001/checkpoint.safetensors").exists()


@pytest.mark.exhaustive
def test_a_process_that_cannot_work_is_reported(tasks, tmp_path):
    (tmp_path / tasks[0].name).write_text("in the way")
    launch_dir = new_launch(tmp_path, "a test", {tasks[0].name: 0})
    report = work_in_processes(1, tasks, tmp_path, launch_dir=launch_dir, takes_slots=False)
    assert report.problem == "1 of 1 workers on this GPU ended early; this job's log has the reason"
