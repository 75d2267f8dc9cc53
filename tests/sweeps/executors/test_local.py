"""Workers on this machine, and as tasks of a Ray of this machine that the launch starts."""

import json
import shutil
import signal
import sys
import tempfile
from dataclasses import replace

import pytest
import ray
from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError
from aimv2.sweeps import manage
from aimv2.sweeps.executors.base import Launched
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor, RayExecutor
from aimv2.sweeps.plan import Plan
from tests.helpers.kill_drill import ARGUMENTS, drill
from tests.helpers.sweeps import board_of, training, wait_for

DEBUG = DebugExecutor()
LOCAL = ("executor=ray", "executor.address=local")
LONG = ("sweep.arms=[uniform]", "sweep.seeds=1", "budget.samples=1000000")


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


@pytest.fixture
def ray_folder(monkeypatch):
    """Give Ray a folder of its own, whose path is short enough for its sockets."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_workers_of_ray_are_one_per_run_or_as_many_as_requested(tiny):
    assert RayExecutor().num_workers([tiny] * 9) == 9
    assert RayExecutor(workers=4).num_workers([tiny] * 9) == 4
    assert RayExecutor(workers=4).num_workers([tiny]) == 1


def test_runs_of_ray_are_on_a_gpu_where_ranks_get_one(tiny):
    assert RayExecutor().device == "cpu"
    assert RayExecutor(gpus=1).device == RayExecutor(gpus=0.25).device == "cuda"


def test_only_runs_of_one_rank_share_a_gpu_of_ray(tiny):
    RayExecutor(gpus=0.25).check([tiny])
    RayExecutor(gpus=1).check([replace(tiny, ranks=2)])
    with pytest.raises(UsageError, match=r"executor\.gpus=0\.25 and ranks=2: only runs of one rank share a GPU"):
        RayExecutor(gpus=0.25).check([tiny, replace(tiny, ranks=2)])


def test_no_ray_is_one_sentence(ray_folder, launched, small, monkeypatch):
    """Where ``auto`` finds none. It finds any Ray of the machine, another test's too, so none is looked for here."""

    def init(*args, **kwargs):
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", init)
    plan = small[1]
    about = Launched(plan.work(plan.runs), launched, len(plan.runs), board_of(plan))
    with (
        pytest.raises(UsageError, match=r"^no Ray at executor\.address=auto, which may be local: Could not find any"),
        RayExecutor().starting(about),
    ):
        pass


def test_a_machine_without_ray_is_told_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"executor=ray needs the package ray: pip install 'aimv2-ablations\[ray\]'"):
        RayExecutor().check([tiny])


@pytest.mark.exhaustive
def test_a_wrong_address_is_one_sentence_and_leaves_no_launch(ray_folder, started, tmp_path):
    process = started(*LONG, "executor=ray", "executor.address=nowhere")
    output = process.communicate()[0]
    assert process.returncode == 2, output
    assert "error: no Ray at executor.address=nowhere, which may be local: Invalid address format" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "runs/launches").iterdir())


@pytest.mark.exhaustive
def test_killed_workers_of_ray_lose_nothing(ray_folder, started, tmp_path, cache_dir):
    process = started(*ARGUMENTS, *LOCAL, "executor.workers=2", "executor.cpus=1")
    drill(tmp_path, cache_dir, lambda: process.poll() is not None, num_deaths=1)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "a worker ended early" in output


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_workers_of_ray_release_their_runs_with_a_checkpoint(ray_folder, started, tmp_path, is_cancelled):
    """When the launch is interrupted, and when it is cancelled from elsewhere."""
    process = started(*LONG, *LOCAL)
    run = wait_for(lambda: training(tmp_path), process)
    if is_cancelled:
        assert manage.main(["cancel", "prefix_ratio", f"runs_dir={tmp_path / 'runs'}", "yes=true"]) == 0
    else:
        process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130, output
    assert ("interrupted: the workers save checkpoints" in output) != is_cancelled
    assert (run.state(), run.num_attempts, run.num_stalled()) == ("new", 1, 0)
    assert (run.path / "attempts/0001/checkpoint").exists()
    assert not list((tmp_path / "runs/launches").iterdir())


@pytest.mark.exhaustive
def test_workers_of_ray_import_the_snapshot_and_write_their_logs_where_others_do(ray_folder, started, tmp_path):
    """The working directory comes first where Ray starts a process, and has a package of the same name."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/__init__.py").write_text("raise RuntimeError('this is not the snapshot')")
    process = started(*LONG[:2], *LOCAL)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "2 runs done" in output
    logs = list(tmp_path.glob("runs/workers/prefix_ratio-*/*.log"))
    assert len(logs) == 2
    holders = [json.loads(path.read_text()) for path in tmp_path.glob("runs/v2-*/attempts/*/holder.json")]
    assert {holder["log"] for holder in holders} <= set(map(str, logs))
