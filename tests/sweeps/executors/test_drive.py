"""Runs that cannot be done, and workers that cannot work."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from ablations.expand import Cell
from aimv2.errors import UsageError
from aimv2.evaluation.metrics import Metric
from aimv2.runs.record import RunFolder
from sweeps.executors import drive
from sweeps.executors.drive import do_runs
from sweeps.executors.local import LocalConfig
from sweeps.plan import Plan
from sweeps.worker import Task, WorkerReport

DEBUG = LocalConfig(cluster="debug")


@pytest.fixture
def plan(tiny, tmp_path):
    return Plan("a test", [Cell(arm="one", seed=seed, config=replace(tiny, seed=seed)) for seed in (0, 1)], tmp_path)


def test_every_run_is_done_and_a_second_time_none(plan):
    do_runs(plan, DEBUG, Console(), plan.remaining())
    assert plan.remaining() == []
    assert plan.num_attempts() == 2
    do_runs(plan, DEBUG, Console(), plan.remaining())
    assert plan.num_attempts() == 2


def test_a_runs_folder_that_cannot_be_written_ends_the_launch_in_one_sentence(plan, tmp_path):
    (tmp_path / plan.cells[0].name).write_text("in the way")
    with pytest.raises(UsageError, match=r"the run folder .* cannot be written"):
        do_runs(plan, DEBUG, Console(), plan.remaining())


@pytest.mark.slow
def test_workers_that_end_before_they_try_a_run_are_not_started_for_ever(plan, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit(3)")  # what a broken installation does to a worker
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(drive, "MAX_IDLE", 1)  # submitit takes a quarter of a minute to believe that a job is dead
    with pytest.raises(UsageError, match="workers end before they try a run"):
        do_runs(plan, LocalConfig(cluster="local", workers=1), Console(), plan.remaining())


def test_a_run_that_kills_its_worker_is_tried_twice(tiny, tmp_path, plan):
    cell = plan.cells[0]
    run, task = RunFolder(tmp_path, cell.name), Task(cell.name, cell.config, tries=0)
    for _ in range(2):
        assert task.is_open(tmp_path)
        with run.acquire(cell.config):
            assert task.is_open(tmp_path), "it is being done"
    assert not task.is_open(tmp_path)
    assert Task(cell.name, cell.config, tries=2).is_open(tmp_path), "another launch tries again"


def test_workers_that_run_out_of_time_are_followed_by_others_until_all_is_done(plan):
    do_runs(plan, LocalConfig(cluster="debug", minutes=1e-6), Console(), plan.remaining())
    assert plan.remaining() == []
    assert plan.num_attempts() == 6, "a step an attempt, and one to evaluate"
    for run in plan.runs.values():
        assert list(run.metrics()["step"]) == [0, 1, 2]


class Job:
    """A worker's job that ends at a known time."""

    def __init__(self, clock, end, report):
        self.clock, self.end, self.report = clock, end, report
        self.paths = SimpleNamespace(stderr="its.log")

    def done(self):
        return self.clock.time() >= self.end

    def exception(self):
        return None if self.report else RuntimeError("died")

    def result(self):
        return self.report


BOTH = ["one", "other"]


@pytest.mark.parametrize(
    ("ends", "share"),
    [
        ({100: WorkerReport(done=BOTH, seconds=100, working_seconds=90)}, "90%"),
        (
            {
                100: WorkerReport(done=BOTH[:1], seconds=100, working_seconds=90),
                50: WorkerReport(done=BOTH[1:], seconds=50, working_seconds=30),
            },
            "80%",  # 120 of 150
        ),
        # The second dies; its place stays empty until the first ends: 90 of 200.
        ({100: WorkerReport(done=BOTH, seconds=100, working_seconds=90), 20: None}, "45%"),
    ],
)
def test_the_share_of_work_is_that_of_all_workers_time(plan, monkeypatch, ends, share):
    now = [1000.0]
    clock = SimpleNamespace(
        time=lambda: now[0],
        perf_counter=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )

    def start_workers(config, tasks, runs_dir, on_rows, jobs, launch):
        jobs += [Job(clock, 1000.0 + end, report) for end, report in ends.items()]
        for task in tasks:
            with RunFolder(runs_dir, task.name).acquire(task.config) as attempt:
                attempt.publish({"x": Metric(1.0, "", "")}, train_flops=0, train_seconds=1.0)

    monkeypatch.setattr(drive, "time", clock)
    monkeypatch.setattr(drive, "start_workers", start_workers)
    console = Console(record=True, width=200)
    do_runs(plan, LocalConfig(cluster="local", workers=1), console, plan.remaining())
    shown = console.export_text()
    assert f"2 runs done in 1.7 min; {share} of the workers' wall time was training or evaluation" in shown
    assert ("a worker ended early; its log is its.log" in shown) == (None in ends.values())
