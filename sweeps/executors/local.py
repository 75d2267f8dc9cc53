"""Workers that the launcher waits for: processes of this machine, this process itself, or tasks of Ray."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.sweeps.executors.base import (
    STOP_SECONDS,
    Executor,
    Launched,
    Poll,
    Start,
    cores_per_run,
    cores_to_share,
)
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


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RayExecutor(Executor):
    """Workers as tasks of Ray.

    Attributes:
        address: as in ``ray.init``; ``local`` starts a Ray for the launch.
        workers: workers at a time; None is one per run.
        minutes: a worker's time; another one then resumes its run. None is no limit.
        cpus: cores of each rank; None is one per thread and loader process.
        gpus: GPUs of each rank; a share has runs share a GPU.
    """

    address: str = "auto"
    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    cpus: int | None = Field(default=None, gt=0)
    gpus: float = Field(default=0, ge=0, le=1)

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        return "cuda" if self.gpus else "cpu"

    def check(self, runs: Sequence[Program]) -> None:
        """Refuse runs that cannot share a GPU, and a machine without Ray."""
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"executor=ray needs the package ray: pip install 'aimv2-ablations[ray]' ({error})"
            ) from error
        if 0 < self.gpus < 1 and (ranks := max_ranks(runs)) > 1:
            raise UsageError(f"executor.gpus={self.gpus:g} and ranks={ranks}: only runs of one rank share a GPU")

    def num_workers(self, runs: Sequence[Program]) -> int:
        return min(self.workers or len(runs), len(runs))  # those for which there is no room yet wait in Ray's queue

    @contextmanager
    def starting(self, launched: Launched) -> Iterator[Start]:
        import ray

        def do_work(about: dict[str, Any]) -> None:  # Ray sends an inner function by value, and it imports the snapshot
            sys.path.insert(0, code)
            from aimv2.sweeps.worker import work_in

            work_in(folder, about)

        def start(name: str) -> Poll:
            task = remote.remote(launched.about(name, minutes=self.minutes, runs_per_gpu=None))
            tasks.append(task)
            return lambda: 0 if ray.wait([task], timeout=0)[0] else None

        configs, code, folder, tasks = launched.work.configs, str(launched.code), os.getcwd(), list[Any]()
        cores, ranks = self.cpus or cores_per_run(configs) + cores_to_share(configs[0]), max_ranks(configs)
        environment = {"env_vars": launched.environment(cores)}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a Ray that is started here
        try:
            ray.init(self.address, runtime_env=environment, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"no Ray at executor.address={self.address}, which may be local: {error}") from error
        remote = ray.remote(num_cpus=ranks * cores, num_gpus=ranks * self.gpus, max_retries=0)(do_work)
        try:
            yield start
        finally:
            for task in tasks:
                ray.cancel(task)
            ray.wait(tasks, num_returns=len(tasks), timeout=STOP_SECONDS)
            ray.shutdown()
