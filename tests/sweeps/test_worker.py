"""Workers that are interrupted, run out of time or space, and take over runs."""

import errno
import multiprocessing
import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from aimv2.config.training_config import LoaderConfig
from aimv2.runs.lease import holder
from aimv2.runs.record import RunFolder, entries
from aimv2.sweeps.active_launches import new_launch, skipped
from aimv2.sweeps.executors.local import stop
from aimv2.sweeps.plan import Task, Work, write_work
from aimv2.sweeps.worker import WATCH_POLL_SECONDS, Worker, read_report, worker_command


@pytest.fixture
def tasks(tiny, pairs):
    """Two runs of two steps, whose data is rendered."""
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    return [Task(config.name, config, after=0) for config in configs]


@pytest.fixture
def launch_dir(tmp_path):
    return new_launch(tmp_path, "a test", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_makes_a_worker_save_a_checkpoint_and_release_its_run(tasks, tmp_path, launch_dir, number):
    def stop(rows):
        if rows[-1]["step"] == 1:
            signal.raise_signal(number)

    report = Worker(Work(tasks), launch_dir, stop).work()
    assert report.signal == number
    assert (report.done, report.problem) == ([], "")
    released, untried = (RunFolder(tmp_path, task.name) for task in tasks)
    assert released.state() == "new"
    assert (released.path / "attempts/0001/checkpoint").exists()
    assert untried.num_attempts == 0

    if number == signal.SIGTERM:
        again = Worker(Work(tasks), launch_dir).work()
        assert again.signal is None
        assert again.done == [task.name for task in tasks]
        assert list(released.metrics()["step"]) == [0, 1, 2]


def test_a_signal_to_all_processes_is_no_failure_of_its_loaders(tasks, tmp_path, launch_dir):
    config = replace(tasks[0].config, loader=LoaderConfig(num_workers=2))

    def stop(rows):
        if rows[-1]["step"] == 1:
            loaders = multiprocessing.active_children()
            assert len(loaders) == 2
            # By another process: a loader process ignores the signal of its parent.
            subprocess.run(["kill", *(str(process.pid) for process in loaders)], check=True)
            time.sleep(0.5)
            signal.raise_signal(signal.SIGTERM)

    report = Worker(Work([Task(config.name, config, after=0)]), launch_dir, stop).work()
    assert (report.signal, report.problem) == (signal.SIGTERM, "")
    run = RunFolder(tmp_path, config.name)
    assert (run.state(), run.num_stalled()) == ("new", 0)
    assert (run.path / "attempts/0001/checkpoint").exists()


@pytest.mark.exhaustive
def test_a_worker_looks_again_after_each_run(tasks, tmp_path, launch_dir):
    first, second = (RunFolder(tmp_path, task.name) for task in tasks)
    other = first.acquire(tasks[0].config)  # by a worker that dies while we train the second run

    def die(rows):
        (other.folder / "released").touch()

    report = Worker(Work(tasks), launch_dir, die).work()
    assert report.done == [tasks[1].name, tasks[0].name]
    assert (first.num_attempts, second.num_attempts) == (2, 1)


def test_a_worker_waits_until_it_knows_whether_a_holder_is_alive(tasks, tmp_path, launch_dir, monkeypatch):
    attempt = RunFolder(tmp_path, tasks[0].name).acquire(tasks[0].config)
    (attempt.folder / "holder.json").write_text("{}")  # on another host
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        os.truncate(attempt.folder / "heartbeat", len(waited))

    monkeypatch.setattr(time, "sleep", sleep)
    assert Worker(Work(tasks[:1]), launch_dir).work().done == []
    assert waited == [WATCH_POLL_SECONDS], "once its heartbeat has changed, the run is in good hands"


def test_the_second_run_without_space_ends_the_worker(tiny, pairs, tmp_path, launch_dir):
    def no_space(rows):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    configs = [replace(tiny, seed=seed) for seed in range(4)]
    report = Worker(Work([Task(config.name, config, after=0) for config in configs]), launch_dir, no_space).work()
    assert "2 runs found no space: OSError: [Errno 28] No space left on device" in report.problem
    assert [entry.cause for entry in entries(tmp_path).values()] == ["no space"] * 2


def test_a_run_whose_folder_cannot_be_written_is_skipped(tasks, tmp_path, launch_dir):
    (tmp_path / tasks[0].name).write_text("in the way")
    report = Worker(Work(tasks), launch_dir).work()
    assert (report.done, report.problem) == ([tasks[1].name], "")
    ((run, reason),) = skipped(launch_dir).items()
    assert run == tasks[0].name
    assert reason.startswith(f"the run folder {tmp_path / run} cannot be written: ")


def test_a_runs_folder_that_cannot_be_written_ends_the_worker(tasks, tmp_path, launch_dir):
    (tmp_path / "index").write_text("in the way")
    report = Worker(Work(tasks), launch_dir).work()
    assert (report.done, skipped(launch_dir)) == ([], {})
    assert report.problem.startswith(f"runs_dir='{tmp_path / 'index'}' cannot be written: ")


@pytest.mark.exhaustive
def test_a_worker_process_reports_in_its_folder_and_hears_no_terminal(tasks, tmp_path, launch_dir):
    endless = replace(tasks[0].config, budget=replace(tasks[0].config.budget, samples=8 * 10**6))
    write_work(launch_dir, Work([Task(endless.name, endless, after=0)]))
    run = RunFolder(tmp_path, endless.name)
    process = subprocess.Popen(worker_command(launch_dir, name="one", log="its.log"))
    try:
        while not (run.rows() or [{}])[-1].get("step"):
            assert process.poll() is None
            time.sleep(0.1)
        for number in (signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None
        assert read_report(launch_dir, "one") is None
    finally:
        assert stop([process])
    assert process.returncode == 0
    assert read_report(launch_dir, "one").signal == signal.SIGTERM
    assert holder(run.path / "attempts/0001")["log"] == "its.log"


def test_a_worker_takes_over_the_run_of_a_stopped_process(tasks, tmp_path, launch_dir, monkeypatch):
    held = RunFolder(tmp_path, tasks[0].name).acquire(tasks[0].config)  # by this process, whose heartbeat stands still
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        (held.folder / "released").touch()  # as if the grace period were over

    monkeypatch.setattr(time, "sleep", sleep)
    assert Worker(Work(tasks[:1]), launch_dir).work().done == [tasks[0].name]
    assert waited[0] == WATCH_POLL_SECONDS
