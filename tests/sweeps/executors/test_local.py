"""Workers on this machine."""

from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor
from aimv2.sweeps.plan import Plan
from tests.helpers.kill_drill import ARGUMENTS, drill
from tests.helpers.sweeps import board_of

DEBUG = DebugExecutor()


@pytest.mark.exhaustive
def test_workers_that_run_out_of_time_are_followed_by_others_until_every_run_is_done_once(plan):
    DebugExecutor(minutes=1e-6).launch(plan, plan.work(plan.remaining()), None, board_of(plan))
    assert plan.remaining() == []
    num_attempts = [run.num_attempts for run in plan.runs.values()]
    assert min(num_attempts) > 3, "one attempt per step, and one per part of the evaluation"
    for run in plan.runs.values():
        assert list(run.metrics()["step"]) == [0, 1, 2]


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
    """It ended after one run, as a SLURM job does."""
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
