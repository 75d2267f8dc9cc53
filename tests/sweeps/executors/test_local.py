"""Workers on this machine, and runs that they cannot do."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from ablations.expand import Cell
from aimv2.errors import UsageError
from aimv2.runs.record import RunFolder
from sweeps.executors.local import MAX_IDLE, LocalExecutor, report_of, summary
from sweeps.plan import Plan
from sweeps.worker import WorkerReport

DEBUG = LocalExecutor(cluster="debug")


@pytest.fixture
def plan(tiny, tmp_path):
    return Plan("a test", [Cell(arm="one", seed=seed, config=replace(tiny, seed=seed)) for seed in (0, 1)], tmp_path)


def test_workers_that_run_out_of_time_are_followed_by_others_until_every_run_is_done_once(plan):
    LocalExecutor(cluster="debug", minutes=1e-6).complete(plan, plan.remaining(), Console())
    assert plan.remaining() == []
    assert plan.num_attempts() == 6, "one attempt per step, and one to evaluate"
    for run in plan.runs.values():
        assert list(run.metrics()["step"]) == [0, 1, 2]
    DEBUG.complete(plan, plan.remaining(), Console())
    assert plan.num_attempts() == 6


def test_an_unwritable_run_folder_ends_the_launch_in_one_sentence(plan, tmp_path):
    (tmp_path / plan.cells[0].name).write_text("in the way")
    with pytest.raises(UsageError, match=r"the run folder .* cannot be written"):
        DEBUG.complete(plan, plan.remaining(), Console())


def test_workers_that_end_before_they_try_a_run_are_not_started_for_ever(plan):
    rounds = []

    def work_round(tasks, launch_dir):
        rounds.append(tasks)
        return [WorkerReport()]

    with pytest.raises(UsageError, match=r"workers end before they try a run; their logs are in .*workers"):
        DEBUG.complete(plan, plan.remaining(), Console(), work_round)
    assert len(rounds) == MAX_IDLE


def test_workers_that_waited_for_a_slot_are_started_again(plan):
    reports = [WorkerReport(was_out_of_time=True)] * (2 * MAX_IDLE)

    def work_round(tasks, launch_dir):
        if reports:
            return [reports.pop()]
        for task in tasks:
            for _ in range(2):
                with RunFolder(plan.runs_dir, task.name).acquire(task.config):
                    pass  # two workers die
        return [WorkerReport()]

    DEBUG.complete(plan, plan.remaining(), Console(), work_round)
    assert not reports
    assert plan.num_attempts() == 4


@pytest.mark.parametrize(
    ("reports", "share"),
    [
        ([WorkerReport(done=["a", "b"], seconds=100, working_seconds=90)], "90%"),
        (
            [
                WorkerReport(done=["a"], seconds=100, working_seconds=90, cpu_seconds=25),
                WorkerReport(done=["b"], seconds=50, working_seconds=30, cpu_seconds=25),
            ],
            "80%",  # 120 of 150
        ),
    ],
)
def test_summary_reports_the_share_of_work_in_all_workers_time(reports, share):
    text = summary(reports, wall=100.0, cores=2)
    assert text.startswith(f"2 runs done in 1.7 min; {share} of the workers' wall time was training or evaluation")
    busy = sum(report.cpu_seconds for report in reports) / 200
    assert f"2 cores were busy {busy:.0%} of it" in text


def test_a_dead_worker_reports_no_work_until_the_others_ended():
    console = Console(record=True)
    died = SimpleNamespace(exception=lambda: RuntimeError("died"), paths=SimpleNamespace(stderr="its.log"))
    assert report_of(died, 100.0, console) == WorkerReport(seconds=100.0)
    assert "a worker ended early; its log is its.log" in console.export_text()
    alive = SimpleNamespace(exception=lambda: None, result=lambda: WorkerReport(done=["a"]))
    assert report_of(alive, 100.0, console) == WorkerReport(done=["a"])


def test_check_refuses_ranks_and_a_shared_gpu_on_the_cpu(tiny):
    with pytest.raises(UsageError, match="ranks=2 needs executor=slurm: a local worker is a single process"):
        DEBUG.check([tiny, replace(tiny, ranks=2)])
    with pytest.raises(UsageError, match=r"executor.runs_per_gpu=2 needs runs on a GPU"):
        LocalExecutor(cluster="local", runs_per_gpu=2).check([tiny])


def test_speed_is_unknown_where_runs_share_a_gpu():
    assert DEBUG.speed_unknown == ""
    assert LocalExecutor(cluster="local", runs_per_gpu="auto").speed_unknown
