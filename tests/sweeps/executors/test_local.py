"""Workers on this machine: kept, replaced, and not started for ever."""

import json
import time
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError
from aimv2.base.files import write_json
from aimv2.runs.lease import Presence, holder
from aimv2.sweeps.active_launches import active_launches, cancel, new_launch
from aimv2.sweeps.executors.local import MAX_IDLE, DebugExecutor, Launched, LocalExecutor, keep_workers
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.worker import WorkerReport
from tests.helpers.kill_drill import ARGUMENTS, drill
from tests.helpers.sweeps import board_of

DEBUG = DebugExecutor()


@pytest.mark.parametrize("executor", [pytest.param(LocalExecutor(workers=1), marks=pytest.mark.exhaustive), DEBUG])
def test_a_run_whose_folder_cannot_be_written_does_not_end_the_launch(executor, plan, pairs):
    board, (lost, healthy) = board_of(plan, Console(record=True)), plan.runs
    (plan.runs_dir / lost).write_text("in the way")
    executor.launch(plan, plan.work(plan.remaining()), None, board)
    assert plan.remaining() == [lost]
    assert plan.runs[healthy].num_attempts == 1
    printed = board.console.export_text()
    assert printed.count(f"{lost} is skipped: the run folder {plan.runs_dir / lost} cannot be written: ") == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("executor", [LocalExecutor(workers=1), DEBUG], ids=["local", "debug"])
def test_a_worker_starts_the_ranks_of_its_runs_and_does_all_runs(executor, tiny, tmp_path):
    configs = [replace(tiny, ranks=2), replace(tiny, ranks=2, seed=1), tiny.untrained()]
    plan = Plan(
        "a test", [Cell(arm=str(config.ranks), seed=config.seed, config=config) for config in configs], tmp_path
    )
    executor.launch(plan, plan.work(plan.remaining()), None, board_of(plan))
    assert plan.remaining() == []
    assert [run.num_attempts for run in plan.runs.values()] == [1, 1, 1]
    assert len(list(tmp_path.glob("workers/*/*.log"))) == (executor is not DEBUG)


@pytest.mark.exhaustive
def test_killed_workers_lose_nothing(started, tmp_path, cache_dir):
    process = started(*ARGUMENTS, "executor=local", "executor.workers=2")
    drill(tmp_path, cache_dir, lambda: process.poll() is not None)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "a worker ended early" in output


def test_only_runs_of_one_rank_on_a_gpu_share_one(tiny):
    on_gpu = replace(tiny, device="cuda")
    LocalExecutor().check([tiny])
    LocalExecutor(runs_per_gpu=4).check([on_gpu])
    with pytest.raises(UsageError, match=r"executor.runs_per_gpu=4 needs runs on a GPU, and these are on the CPU"):
        LocalExecutor(runs_per_gpu=4).check([on_gpu, tiny])
    with pytest.raises(UsageError, match="runs_per_gpu=4 and ranks=2: only runs of one rank share"):
        LocalExecutor(runs_per_gpu=4).check([replace(on_gpu, ranks=2)])


def ended(launch_dir, name, report):
    """Return the state of a worker that has ended with this report; None if it died."""
    folder = launch_dir / "workers" / name
    folder.mkdir(parents=True, exist_ok=True)
    if report is not None:
        write_json(folder / "report.json", asdict(report))
    return lambda: 0


def publish_all(plan):
    for run in plan.runs.values():
        with run.acquire(plan.cell_of[run.name].config) as attempt:
            attempt.publish({})


@pytest.fixture
def launch_dir(plan):
    return new_launch(plan.runs_dir, "test", plan.runs)


@pytest.fixture
def console():
    return Console(record=True, width=500)


@pytest.fixture
def keep(plan, launch_dir, console, monkeypatch):
    """Keep this number of workers until all runs are done, without waiting."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def keep(num_workers, start):
        return keep_workers(Launched(plan.work(plan.runs), launch_dir, num_workers, board_of(plan, console)), start)

    return keep


@pytest.mark.parametrize("report", [WorkerReport(), None])
def test_workers_that_end_before_they_try_a_run_are_not_started_for_ever(keep, launch_dir, console, report):
    names = []

    def start(name):
        names.append(name)
        return ended(launch_dir, name, report)

    with pytest.raises(UsageError, match=r"workers end before they try a run; their logs are in .*workers"):
        keep(num_workers=1, start=start)
    assert len(names) == MAX_IDLE
    printed, logs = console.export_text(), launch_dir.parents[1] / "workers" / launch_dir.name
    dead = names if report is None else []
    assert [name for name in names if f"a worker ended early; its log is {logs / name}.log" in printed] == dead


def test_a_killed_worker_is_replaced_while_another_one_works(plan, keep, launch_dir):
    first, second = plan.runs.values()
    started = []

    def start(name):
        started.append(name)
        if len(started) == 1:
            ended(launch_dir, name, WorkerReport(done=[first.name]))
            return lambda: 0 if second.is_done else None
        attempt = second.acquire(plan.cell_of[second.name].config)
        if len(started) == 2:
            with attempt:
                pass
            return ended(launch_dir, name, None)
        with attempt:  # the replacement does both runs
            attempt.publish({})
        with first.acquire(plan.cell_of[first.name].config) as attempt:
            attempt.publish({})
        return ended(launch_dir, name, WorkerReport(done=[second.name]))

    keep(num_workers=2, start=start)
    assert len(started) == 3
    assert plan.remaining() == []


def test_a_stopped_worker_is_replaced_and_not_waited_for(plan, keep, launch_dir):
    started = []

    def start(name):
        folder = launch_dir / "workers" / name
        folder.mkdir(parents=True)
        Presence(folder)
        started.append(name)
        if len(started) == 1:  # as if its heartbeat had been watched for the grace period
            (folder / "holder.json").write_text(json.dumps(holder(folder) | {"process_start": "1"}))
            return lambda: None
        publish_all(plan)
        return ended(launch_dir, name, WorkerReport())

    keep(num_workers=1, start=start)
    assert len(started) == 2
    assert plan.remaining() == []


def test_a_cancelled_launch_waits_for_workers_that_do_runs_of_others(plan, keep, launch_dir):
    first, second = plan.runs.values()
    looks = iter(range(10))

    def start(name):
        if first.acquire(plan.cell_of[first.name].config) is not None:
            (folder := launch_dir / "workers" / name).mkdir(parents=True)
            Presence(folder)  # a worker that is just starting would not be waited for
            return lambda: None if next(looks, None) is not None else 0
        second.acquire(plan.cell_of[second.name].config)
        cancel(active_launches(plan.runs_dir, lambda folder: True)[0], [])
        return ended(launch_dir, name, WorkerReport())

    with pytest.raises(KeyboardInterrupt):
        keep(num_workers=2, start=start)
    assert next(looks, None) is None


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_worker_that_never_starts_is_not_waited_for(plan, keep, launch_dir, is_cancelled):
    started = []

    def start(name):
        started.append(name)
        if len(started) == 2:
            return lambda: None
        for run in plan.runs.values():
            with run.acquire(plan.cell_of[run.name].config) as attempt:
                attempt.publish({})
            if is_cancelled:
                cancel(active_launches(plan.runs_dir, lambda folder: True)[0], [])
                break
        return ended(launch_dir, name, WorkerReport())

    if is_cancelled:
        with pytest.raises(KeyboardInterrupt):
            keep(num_workers=2, start=start)
    else:
        keep(num_workers=2, start=start)
        assert plan.remaining() == []
    assert len(started) == 2


def test_a_host_on_which_no_worker_can_work_does_not_end_the_launch(plan, keep, launch_dir):
    problems = [WorkerReport(problem="a stale mount")] * (MAX_IDLE - 1)

    def start(name):
        if problems:
            return ended(launch_dir, name, problems.pop())
        publish_all(plan)
        return ended(launch_dir, name, WorkerReport())

    keep(num_workers=1, start=start)
    assert plan.remaining() == []


def test_workers_that_cannot_work_one_after_the_other_end_the_launch_with_their_problem(keep, launch_dir):
    names = []

    def start(name):
        names.append(name)
        return ended(launch_dir, name, WorkerReport(problem="a stale mount"))

    with pytest.raises(UsageError, match=r"^a stale mount; their logs are in "):
        keep(num_workers=1, start=start)
    assert len(names) == MAX_IDLE
