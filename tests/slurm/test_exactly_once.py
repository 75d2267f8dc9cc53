"""A sweep on a cluster, while everything happens to it that can: afterwards every run was done exactly once, and as if
nothing had happened."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from aimv2.runs.lease import Lease, acquire, latest_attempt
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import last_rows
from sweeps.active_launches import active_launches

ASKED = ("launch.py", "sweep=prefix_ratio", "executor=slurm", "sweep.arms=[uniform,causal]")
# Longer runs than the time limit leaves room for more than one or two of.
STEPS = 192
SIZE = (f"budget.samples={STEPS * 32}", "executor.minutes=1", "executor.signal_seconds=20")


@dataclass(frozen=True)
class Worker:
    """A process that trains a run, and has kept a checkpoint of it."""

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
    """What was done to the sweep.

    Attributes:
        first, second: what the two launches printed.
        num_done: runs that were done when the first launch returned.
        seconds: that it took.
        befallen: the workers, by what befell them.
        outlived: whether the worker of the node that was down lived on, and another process could not claim its run.
    """

    folder: Path
    first: str
    second: str
    num_done: int
    seconds: float
    befallen: dict[str, Worker]
    outlived: bool

    @property
    def runs(self) -> list[RunFolder]:
        return [RunFolder(path.parent, path.name) for path in sorted(self.folder.glob("runs/v1-*"))]


def worker_of(run: Path) -> Worker | None:
    """The worker that is at a run, has come some way and has some to go."""
    attempt = latest_attempt(run)
    if attempt is None or (attempt / "released").exists() or not (attempt / "checkpoint.safetensors").exists():
        return None
    if last_rows(attempt)[-1]["step"] > STEPS // 2:
        return None
    try:
        pid = json.loads((attempt / "holder.json").read_text())["pid"]
        variables = dict(word.partition("=")[::2] for word in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    except (OSError, ValueError):
        return None
    return Worker(attempt, pid, variables["SLURM_JOB_ID"], variables["SLURMD_NODENAME"])


def claimed_beside(worker: Worker) -> Lease | None:
    """What a second process gets that would do the worker's run."""
    return acquire(worker.attempt.parent.parent)


@pytest.fixture(scope="module")
def story(slurm, typed, wait_for, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")

    def training(node: str | None = None) -> Worker:
        """A worker that nothing has happened to yet."""
        past = {worker.attempt.parent for worker in befallen.values()}

        def find() -> Worker | None:
            found = (worker_of(run) for run in folder.glob("runs/v1-*") if run / "attempts" not in past)
            return next((worker for worker in found if worker and node in (None, worker.node)), None)

        return wait_for(find)

    befallen: dict[str, Worker] = {}
    start = time.monotonic()
    first = typed(folder, *ASKED, *SIZE)
    seconds = time.monotonic() - start
    num_done = len(list(folder.glob("runs/*/result.json")))
    assert first.returncode == 0, first.stdout + first.stderr
    second = typed(folder, *ASKED, *SIZE)
    assert second.returncode == 0, second.stdout + second.stderr

    befallen["preempted"] = training("n1")
    slurm("sbatch", "--partition=urgent", "--account=lab", "--nodelist=n1", "--output=/dev/null", "--wrap=sleep 3")

    down = befallen["node down"] = training("n2")
    slurmd = int((slurm.folder / "slurmd.n2.pid").read_text())
    os.kill(slurmd, signal.SIGSTOP)  # as if the network were gone: the node's processes are not
    slurm("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    time.sleep(3)
    outlived = down.is_alive and down.is_latest and claimed_beside(down) is None
    os.kill(slurmd, signal.SIGCONT)
    slurm("scontrol", "update", "NodeName=n2", "State=RESUME")

    befallen["cancelled"] = training()
    slurm("scancel", befallen["cancelled"].job)

    befallen["killed"] = training()
    os.kill(befallen["killed"].pid, signal.SIGKILL)

    slurm.wait_until_empty()
    return Story(folder, first.stdout, second.stdout, num_done, seconds, befallen, outlived)


def test_the_launch_returns_before_the_work(story):
    print(f"submitted in {story.seconds:.1f} s")
    assert story.num_done == 0
    assert "submitted: 12 workers as array" in story.first


def test_the_second_launch_leaves_the_runs_to_the_first(story):
    assert "12 runs are in the queue already" in story.second
    assert "submitted" not in story.second


def test_every_run_has_one_result(story):
    assert len(story.runs) == 12
    for run in story.runs:
        assert run.is_done
        assert len(list(run.path.glob("attempts/*/result.json"))) == 1


def test_what_befell_a_worker_interrupted_its_run(story):
    for name in ("preempted", "cancelled", "killed"):
        assert not story.befallen[name].is_latest, name


def test_a_worker_that_outlives_its_node_keeps_its_run(story):
    assert story.outlived


def test_workers_reached_their_time_limit(story):
    logs = [path.read_text() for path in story.folder.glob("runs/workers/*/*/*_log.err")]
    assert sum("this job is timed-out" in log for log in logs) > 0


def test_interrupted_runs_have_the_losses_of_uninterrupted_ones(story, typed):
    interrupted = [run.name for run in story.runs if run.num_attempts > 1]
    assert len(interrupted) >= 3
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda name: typed(story.folder, "manage.py", "replay", name), interrupted):
            assert done.returncode == 0, done.stdout + done.stderr
            assert "step values compared, 0 differ" in done.stdout
            assert "equal to the last bit" in done.stdout


def test_nothing_is_left_but_the_report(story):
    assert active_launches(story.folder / "runs") == []
    assert (story.folder / "reports" / "prefix_ratio" / "report.md").exists()
    assert not any(worker.is_alive for worker in story.befallen.values())
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(story.folder).encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
