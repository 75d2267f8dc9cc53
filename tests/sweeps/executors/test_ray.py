"""Workers as tasks of Ray: a Ray of this machine, started by the launch."""

import json
import shutil
import signal
import tempfile
from dataclasses import replace

import pytest
import ray

from aimv2.base.errors import UsageError
from aimv2.sweeps import manage
from aimv2.sweeps.executors.ray import RayExecutor
from aimv2.sweeps.executors.workers import Launched
from tests.helpers.kill_drill import ARGUMENTS, drill
from tests.helpers.sweeps import board_of, training, wait_for

LOCAL = ("executor=ray", "executor.address=local")
LONG = ("sweep.arms=[uniform]", "sweep.seeds=1", "budget.samples=1000000")


@pytest.fixture(autouse=True)
def ray_folder(monkeypatch):
    """Give Ray a folder of its own, whose path is short enough for its sockets."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_workers_are_one_per_run_or_as_many_as_requested(tiny):
    assert RayExecutor().num_workers([tiny] * 9) == 9
    assert RayExecutor(workers=4).num_workers([tiny] * 9) == 4
    assert RayExecutor(workers=4).num_workers([tiny]) == 1


def test_runs_are_on_a_gpu_where_ranks_get_one(tiny):
    assert RayExecutor().device == "cpu"
    assert RayExecutor(gpus=1).device == RayExecutor(gpus=0.25).device == "cuda"


def test_only_runs_of_one_rank_share_a_gpu(tiny):
    RayExecutor(gpus=0.25).check([tiny])
    RayExecutor(gpus=1).check([replace(tiny, ranks=2)])
    with pytest.raises(UsageError, match=r"executor\.gpus=0\.25 and ranks=2: only runs of one rank share a GPU"):
        RayExecutor(gpus=0.25).check([tiny, replace(tiny, ranks=2)])


def test_no_ray_is_one_sentence(launched, small, monkeypatch):
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


@pytest.mark.exhaustive
def test_a_wrong_address_is_one_sentence_and_leaves_no_launch(started, tmp_path):
    process = started(*LONG, "executor=ray", "executor.address=nowhere")
    output = process.communicate()[0]
    assert process.returncode == 2, output
    assert "error: no Ray at executor.address=nowhere, which may be local: Invalid address format" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "runs/launches").iterdir())


@pytest.mark.exhaustive
def test_killed_workers_lose_nothing(started, tmp_path, cache_dir):
    process = started(*ARGUMENTS, *LOCAL, "executor.workers=2", "executor.cpus=1")
    drill(tmp_path, cache_dir, lambda: process.poll() is not None, num_deaths=1)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "a worker ended early" in output


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_workers_release_their_runs_with_a_checkpoint(started, tmp_path, is_cancelled):
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
def test_workers_import_the_snapshot_and_write_their_logs_where_others_do(started, tmp_path):
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
