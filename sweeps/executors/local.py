"""Workers that the launcher waits for: processes of this machine, or this process itself."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.sweeps.executors.base import STOP_SECONDS, Executor, Launched, Poll, Start
from aimv2.sweeps.machine import HERE, Machine, max_ranks, room
from aimv2.sweeps.worker import Process, Worker, stop, worker_command


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalExecutor(Executor):
    """Workers as processes on this machine. Each does one run after the other; it is rank 0 of a run of several ranks,
    and starts the others.

    Attributes:
        workers: None is as many as fit the machine (cores, memory, GPUs).
        minutes: a worker's time; None is no limit.
        runs_per_gpu: workers that share a GPU.
    """

    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    runs_per_gpu: int = Field(default=1, gt=0)

    @property
    def speed_unknown(self) -> str:
        return "" if self.runs_per_gpu == 1 else "the speed of runs that share a GPU is not known"

    def check(self, runs: Sequence[Program]) -> None:
        """Refuse runs that cannot share a GPU: those on the CPU and those of several ranks."""
        if self.runs_per_gpu != 1 and any(run.device != "cuda" for run in runs):
            raise UsageError(f"executor.runs_per_gpu={self.runs_per_gpu} needs runs on a GPU, and these are on the CPU")
        if self.runs_per_gpu != 1 and (ranks := max_ranks(runs)) > 1:
            raise UsageError(
                f"executor.runs_per_gpu={self.runs_per_gpu} and ranks={ranks}: only runs of one rank share"
            )

    def num_workers(self, runs: Sequence[Program], machine: Machine = HERE) -> int:
        here = room(runs, self.runs_per_gpu, machine)
        if here.workers == 0:
            raise UsageError(f"no run fits this machine: it {here.limit}")
        if self.workers is not None and self.workers > here.workers:
            raise UsageError(
                f"executor.workers={self.workers} is more than the {here.workers} that fit: this machine {here.limit}"
            )
        return self.workers or here.workers

    @contextmanager
    def starting(self, launched: Launched) -> Iterator[Start]:
        configs, processes = launched.work.configs, list[Process]()
        cores = max(HERE.num_cores() // (launched.num_workers * max_ranks(configs)), 1)  # of each rank

        def start(name: str) -> Poll:
            about = launched.about(name, minutes=self.minutes, runs_per_gpu=self.runs_per_gpu)
            command, environment = worker_command(about), os.environ | launched.environment(cores)
            with launched.log_of(name).open("w") as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            processes.append(process)
            return process.poll

        try:
            yield start
        finally:
            if not stop(processes, STOP_SECONDS):
                text = "some workers are still running; they stop after their current step"
                launched.board.console.print(text, style="yellow")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DebugExecutor(LocalExecutor):
    """One worker in this process: slower, but a debugger and print statements reach it, or rank 0 of several."""

    is_display_live: ClassVar[bool] = False
    workers: Literal[1] = 1

    @contextmanager
    def starting(self, launched: Launched) -> Iterator[Start]:
        def start(name: str) -> Poll:
            worker = partial(Worker, launched.work, launched.folder, lambda rows: launched.board.update(), name=name)
            if worker(minutes=self.minutes, runs_per_gpu=self.runs_per_gpu).work().signal is not None:
                raise KeyboardInterrupt
            return lambda: 0

        yield start
