"""Workers through submitit: in this process (debug) or as processes of this machine (local)."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config import CHECKED
from sweeps.slots import num_cores
from sweeps.worker import Task, work

STOP_SECONDS = 30
MINUTES = 60 * 24 * 365  # submitit kills local jobs after five minutes unless told otherwise


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExecutorConfig:
    """Attributes:
    workers: ``auto`` is one per ``threads_per_worker`` cores.
    """

    cluster: Literal["debug", "local"]
    workers: Literal["auto"] | int = "auto"
    threads_per_worker: int = Field(default=1, gt=0)

    def __post_init__(self) -> None:
        if self.workers != "auto" and not 1 <= self.workers <= self.max_workers:
            raise ValueError(
                f"workers={self.workers} must be 'auto' or 1 to {self.max_workers}, what this machine's"
                f" {num_cores()} cores allow at threads_per_worker={self.threads_per_worker}"
            )

    @property
    def max_workers(self) -> int:
        return max(1, num_cores() // self.threads_per_worker)

    @property
    def num_workers(self) -> int:
        return self.max_workers if self.workers == "auto" else int(self.workers)


def start_workers(config: ExecutorConfig, tasks: list[Task], runs_dir: Path) -> list["submitit.Job[Any]"]:
    """Start as many workers as the configuration has, but no more than there are tasks.

    A worker runs many runs, since submitit starts all it is given at once.
    """
    executor = submitit.AutoExecutor(folder=runs_dir / "workers" / "%j", cluster=config.cluster)
    executor.update_parameters(timeout_min=MINUTES)
    with _threads(config.threads_per_worker), _deaf_to_interrupts():
        return [
            executor.submit(work, tasks, runs_dir, config.max_workers, config.threads_per_worker)
            for _ in range(min(config.num_workers, len(tasks)))
        ]


def stop_workers(jobs: Sequence["submitit.Job[Any]"]) -> None:
    """Ask local workers to hand back what they are doing, and wait until they have."""
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)  # a local job's id is its process; it passes the signal on
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(0.1)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here ignore SIGINT, so that a Ctrl-C in their terminal reaches the launcher alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Environment of the workers: as many threads as said in every library, and no tokenizer pool beside them."""
    wanted = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number))
    wanted["TOKENIZERS_PARALLELISM"] = "false"
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
