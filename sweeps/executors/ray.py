"""``executor=ray``: workers as tasks of a Ray cluster, or of a Ray that this machine starts for the launch."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import ray
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.sweeps.executors.base import Executor, cores_per_run, cores_to_share
from aimv2.sweeps.executors.workers import STOP_SECONDS, Launched, Poll, Start
from aimv2.sweeps.machine.room import max_ranks


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
        if 0 < self.gpus < 1 and (ranks := max_ranks(runs)) > 1:
            raise UsageError(f"executor.gpus={self.gpus:g} and ranks={ranks}: only runs of one rank share a GPU")

    def num_workers(self, runs: Sequence[Program]) -> int:
        return min(self.workers or len(runs), len(runs))  # those for which there is no room yet wait in Ray's queue

    @contextmanager
    def starting(self, launched: Launched) -> Iterator[Start]:
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
