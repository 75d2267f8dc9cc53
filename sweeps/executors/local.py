"""Workers through submitit: in this process (debug) or as processes of this machine (local)."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.run_config import CHECKED, RunConfig
from aimv2.errors import UsageError
from sweeps.executors.pack import check_sharing, pack
from sweeps.freeze import freeze, variables
from sweeps.machine.room import num_cores, room
from sweeps.worker import Task, work

CONF_DIR = Path(__file__).parents[1] / "conf"
STOP_SECONDS = 30
MINUTES = 60 * 24 * 365  # submitit kills local jobs after five minutes unless told otherwise


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalConfig:
    """Where workers run.

    Attributes:
        workers: how many; None is as many as the machine has room for (cores, memory, GPUs).
        minutes: a worker's time; None is no limit. When it is nearly up the worker keeps a checkpoint, hands its run
            back and ends, and another is started while there are runs to do.
        share_gpu: a worker does as many runs at once as fit its GPU's memory, each with cores of its own. Each takes
            longer then.
    """

    cluster: Literal["debug", "local"]
    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    share_gpu: bool = False

    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse runs that these workers cannot do.

        Raises:
            UsageError: one has several ranks, or they cannot share a GPU.
        """
        if (ranks := max(run.ranks for run in runs)) > 1:
            raise UsageError(f"ranks={ranks} takes executor=slurm: a local worker is a process of its own")
        self.runs_per_gpu(runs)

    def num_workers(self, runs: Sequence[RunConfig]) -> int:
        """Workers for these runs.

        Raises:
            UsageError: the machine has no room for one, or not for as many as were asked for.
        """
        here = room(runs)
        if here.workers == 0:
            raise UsageError(f"no run fits this machine: its {here.limit}")
        if self.workers is not None and self.workers > here.workers:
            raise UsageError(
                f"executor.workers={self.workers} is more than the {here.workers} that this machine's {here.limit}"
            )
        return 1 if self.cluster == "debug" else self.workers or here.workers

    @property
    def speed_unknown(self) -> str:
        return ""

    def describe_workers(self, num_workers: int) -> str:
        return f"{num_workers} worker{'s' * (num_workers > 1)}"

    def runs_per_gpu(self, runs: Sequence[RunConfig]) -> int:
        """Runs that a worker does at once, at most.

        Raises:
            UsageError: they cannot share a GPU.
        """
        if not self.share_gpu:
            return 1
        check_sharing(runs)
        threads = max(run.threads for run in runs)
        if num_cores() < 2 * threads:
            raise UsageError(
                f"executor.share_gpu=true and {num_cores()} cores have no room for two runs at threads={threads}"
            )
        return num_cores() // threads


def start_workers(
    config: LocalConfig,
    tasks: list[Task],
    runs_dir: Path,
    on_rows: Callable[[list[dict[str, Any]]], None],
    jobs: "list[submitit.Job[Any]]",
    launch: Path,
) -> None:
    """Start workers, no more than there are tasks, and append them to ``jobs`` as they start.

    A worker does many runs, since submitit starts all it is given at once. Processes import the code as it was at
    launch; in this process (debug) it is what it is.

    Raises:
        UsageError: the copy of the code in the runs' folder was changed.
    """
    runs = [task.config for task in tasks]
    run = runs[0]
    # A folder of its own: submitit names local jobs by their process, and numbers come back.
    folder = runs_dir / "workers" / uuid.uuid4().hex[:12] / "%j"
    executor = submitit.AutoExecutor(folder=folder, cluster=config.cluster)
    executor.update_parameters(timeout_min=MINUTES)
    if run.device == "cuda":
        import torch

        executor.update_parameters(gpus_per_node=torch.cuda.device_count())  # or submitit hides them all
    wanted = variables(run) | (_imports(freeze(runs_dir)) if config.cluster == "local" else {})
    with _environment(wanted), _deaf_to_interrupts():
        for _ in range(min(config.num_workers(runs), len(tasks))):
            shown = None if config.cluster == "local" else on_rows  # another process cannot call it
            if config.share_gpu:
                job = executor.submit(
                    pack, tasks, runs_dir, config.minutes, launch, time.time(), at_once=config.runs_per_gpu(runs)
                )
            else:
                job = executor.submit(work, tasks, runs_dir, shown, config.minutes, launch, time.time())
            jobs.append(job)


def stop_workers(jobs: Sequence["submitit.Job[Any]"]) -> bool:
    """Ask local workers to hand back what they are doing and wait for it; whether all have ended."""
    deadline = time.monotonic() + STOP_SECONDS
    while running := [job for job in jobs if not job.done()]:
        if time.monotonic() > deadline:
            return False
        for job in running:
            with contextlib.suppress(ProcessLookupError):
                # A local job's id is its process, which passes the signal on. It is sent again and again, for a
                # worker that is just starting does not hear it.
                os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(0.5)
    return True


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here ignore SIGINT, so that a Ctrl-C in their terminal reaches the launcher alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _imports(code: Path) -> dict[str, str]:
    """Our packages from that folder, before all others. submitit names ``work`` and does not send it along, so this
    decides what a worker runs."""
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(code), *([others] if others else [])])}


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """These variables, for processes started here."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
