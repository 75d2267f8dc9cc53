"""A sweep on a cluster whose workers are preempted, hung up, cancelled and lose their node, and one whose workers are
killed: every run is done exactly once, with the losses of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from aimv2.runs.lease import Lease, acquire, latest_attempt
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import last_row
from aimv2.sweeps.active_launches import active_launches
from tests.helpers.kill_drill import ARGUMENTS as ARGUMENTS_OF_DRILL
from tests.helpers.kill_drill import drill
from tests.helpers.sweeps import small_sweep

LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"
ARGUMENTS = ("launch.py", "sweep=prefix_ratio", "executor=slurm", "sweep.arms=[uniform,causal]")
# Runs so long that one or two of them reach the time limit.
STEPS = 192
SIZE = (f"budget.samples={STEPS * 32}", "executor.minutes=1", "executor.signal_seconds=20")


@dataclass(frozen=True)
class Worker:
    """A process that trains a run and has saved a checkpoint of it."""

    attempt: Path
    pid: int
    job: str
    node: str

    @property
    def is_alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    @property
    def is_latest(self) -> bool:
        return latest_attempt(self.attempt.parent.parent) == self.attempt


@dataclass(frozen=True)
class Story:
    """The outcome of the sweep.

    Attributes:
        first, second: output of the two launches.
        num_done: number of runs that were done when the first launch returned.
        seconds: time that the first launch took.
        disturbed: a worker for each disturbance, by its name.
        outlived: True if the worker of the down node kept its run: it lived on, and no other process could acquire it.
        num_checkpoints: the largest number that a run had at a time.
    """

    folder: Path
    first: str
    second: str
    num_done: int
    seconds: float
    disturbed: dict[str, Worker]
    outlived: bool
    num_checkpoints: int

    @property
    def runs(self) -> list[RunFolder]:
        return [RunFolder(path.parent, path.name) for path in sorted(self.folder.glob("runs/v2-*"))]

    @property
    def disturbed_runs(self) -> set[Path]:
        return {worker.attempt.parent.parent for worker in self.disturbed.values()}


def worker_of(run: Path) -> Worker | None:
    """Return the worker of a run that has saved a checkpoint, before half of its steps."""
    attempt = latest_attempt(run)
    if attempt is None or (attempt / "released").exists() or not (attempt / "checkpoint").exists():
        return None
    if last_row(attempt).get("step", 0) > STEPS // 2:
        return None
    try:
        pid = json.loads((attempt / "holder.json").read_text())["pid"]
        variables = dict(word.partition("=")[::2] for word in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    except (OSError, ValueError):
        return None
    return Worker(attempt, pid, variables["SLURM_JOB_ID"], variables["SLURMD_NODENAME"])


def acquired_beside(worker: Worker) -> Lease | None:
    """Try to acquire the worker's run, as a second process would."""
    return acquire(worker.attempt.parent.parent)


@pytest.fixture(scope="module")
def story(slurm, typed, wait_for, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")

    def training(node: str | None = None) -> Worker:
        """Return a worker that was not disturbed yet."""
        past = {worker.attempt.parent for worker in disturbed.values()}

        def find() -> Worker | None:
            found = (worker_of(run) for run in folder.glob("runs/v2-*") if run / "attempts" not in past)
            return next((worker for worker in found if worker and node in (None, worker.node)), None)

        return wait_for(find)

    disturbed: dict[str, Worker] = {}
    start = time.monotonic()
    first = typed(folder, *ARGUMENTS, *SIZE)
    seconds = time.monotonic() - start
    num_done = len(list(folder.glob("runs/*/result.json")))
    assert first.returncode == 0, first.stdout + first.stderr
    second = typed(folder, *ARGUMENTS, *SIZE)
    assert second.returncode == 0, second.stdout + second.stderr

    disturbed["preempted"] = training("n1")
    slurm("sbatch", "--partition=urgent", "--account=lab", "--nodelist=n1", "--output=/dev/null", "--wrap=sleep 3")

    down = disturbed["node down"] = training("n2")
    slurmd = int((slurm.folder / "slurmd.n2.pid").read_text())
    os.kill(slurmd, signal.SIGSTOP)  # as if the network were down: the node's processes live
    slurm("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    time.sleep(3)
    outlived = down.is_alive and down.is_latest and acquired_beside(down) is None
    os.kill(slurmd, signal.SIGCONT)
    slurm("scontrol", "update", "NodeName=n2", "State=RESUME")

    disturbed["cancelled"] = training()
    slurm("scancel", disturbed["cancelled"].job)

    disturbed["hung up"] = training()
    os.kill(disturbed["hung up"].pid, signal.SIGHUP)

    num_checkpoints = 0
    while slurm.queue():
        found = Counter(path.parents[3].name for path in folder.glob("runs/v2-*/attempts/*/checkpoint/*"))
        num_checkpoints = max(num_checkpoints, *found.values(), 0)
        time.sleep(0.5)
    return Story(folder, first.stdout, second.stdout, num_done, seconds, disturbed, outlived, num_checkpoints)


def test_launch_returns_before_the_work(story):
    print(f"submitted in {story.seconds:.1f} s")
    assert story.num_done == 0
    assert "submitted: 12 workers as array" in story.first


def test_a_second_launch_adds_workers_for_the_same_runs_and_every_run_has_one_result(story):
    assert "submitted: 12 workers as array" in story.second
    assert len(story.runs) == 12
    for run in story.runs:
        assert run.is_done
        assert len(list(run.path.glob("attempts/*/result.json"))) == 1


def test_a_disturbed_worker_loses_its_run(story):
    for name in ("preempted", "cancelled", "hung up"):
        assert not story.disturbed[name].is_latest, name


def test_a_worker_that_outlives_its_node_keeps_its_run_and_one_that_is_hung_up_releases_it_with_a_checkpoint(story):
    assert story.outlived
    attempt = story.disturbed["hung up"].attempt
    assert (attempt / "interrupted").exists()
    assert (attempt / "progress").exists()


def test_checkpoints_do_not_pile_up(story):
    assert 1 <= story.num_checkpoints <= 2, "for a moment, the new one beside the old one"
    assert not list(story.folder.glob("runs/v2-*/attempts/*/checkpoint"))


def test_workers_reached_their_time_limit(story):
    logs = [path.read_text() for path in story.folder.glob("runs/workers/*/*/*_log.err")]
    assert sum("this job is timed-out" in log for log in logs) > 0


def test_interrupted_runs_have_the_losses_of_uninterrupted_ones(story, typed):
    interrupted = [run.name for run in story.runs if run.num_attempts > 1 and run.path in story.disturbed_runs]
    assert len(interrupted) >= 3
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda name: typed(story.folder, "manage.py", "replay", name), interrupted):
            assert done.returncode == 0, done.stdout + done.stderr
            assert "compared, 0 differ" in done.stdout
            assert "equal to the last bit" in done.stdout


def test_only_runs_and_the_report_are_left(story):
    assert active_launches(story.folder / "runs") == []
    assert (story.folder / "reports" / "prefix_ratio" / "report.md").exists()
    assert not any(worker.is_alive for worker in story.disturbed.values())
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(story.folder).encode() in _read(path)]


def test_killed_workers_lose_nothing(slurm, prepared, cache_dir, tmp_path):
    command = [sys.executable, str(LAUNCH), *small_sweep(cache_dir, *ARGUMENTS_OF_DRILL, "executor=slurm")]
    launched = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    drill(tmp_path, cache_dir, lambda: not slurm.queue())
    assert (tmp_path / "reports" / "prefix_ratio" / "report.md").exists()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
