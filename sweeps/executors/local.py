"""Workers on this machine: processes (``executor=local``), or this process itself (``executor=debug``)."""

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
from aimv2.sweeps.executors.base import Executor, RunsPerGpu, check_gpu_sharing
from aimv2.sweeps.executors.workers import STOP_SECONDS, Launched, Poll, Start
from aimv2.sweeps.machine.room import HERE, Machine, max_ranks, resolve_runs_per_gpu, room
from aimv2.sweeps.worker import Process, Worker, stop, worker_command


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalExecutor(Executor):
    """Workers as processes on this machine. Each does one run after the other; it is rank 0 of a run of several ranks,
    and starts the others.

    Attributes:
        workers: None is as many as fit the machine (cores, memory, GPUs).
        minutes: a worker's time; None is no limit.
        runs_per_gpu: workers that share a GPU; ``auto`` is as many as its memory holds, by prediction.
    """

    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    runs_per_gpu: RunsPerGpu = 1

    @property
    def speed_unknown(self) -> str:
        return "" if self.runs_per_gpu == 1 else "the speed of runs that share a GPU is not known"

    def check(self, runs: Sequence[Program]) -> None:
        """Refuse runs that cannot share a GPU."""
        check_gpu_sharing(self.runs_per_gpu, runs)

    def num_workers(self, runs: Sequence[Program], machine: Machine = HERE) -> int:
        here = room(runs, resolve_runs_per_gpu(self.runs_per_gpu, runs, machine), machine)
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
        runs_per_gpu = resolve_runs_per_gpu(self.runs_per_gpu, configs)

        def start(name: str) -> Poll:
            about = launched.about(name, minutes=self.minutes, runs_per_gpu=runs_per_gpu)
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
        runs_per_gpu = resolve_runs_per_gpu(self.runs_per_gpu, launched.work.configs)

        def start(name: str) -> Poll:
            worker = partial(Worker, launched.work, launched.folder, lambda rows: launched.board.update(), name=name)
            if worker(minutes=self.minutes, runs_per_gpu=runs_per_gpu).work().signal is not None:
                raise KeyboardInterrupt
            return lambda: 0

        yield start
