"""The interface of executors."""

import dataclasses
import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from aimv2.ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.config.program import Program
from aimv2.run.price import duration
from aimv2.sweeps.active_launches import ActiveLaunch, Queued, at_work, new_logs
from aimv2.sweeps.executors.workers import Launched, Start, keep_workers
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.status.board import Board
from aimv2.sweeps.tasks import Work, write_work

GPU_CORES = 7  # for loader processes of a GPU; with the training process 8, of which most nodes have as many per GPU
OF_AMOUNT = ("workers", "minutes", "array_parallelism", "signal_seconds")  # fields that do not say where workers run
RunsPerGpu = Literal["auto"] | Annotated[int, Field(gt=0)]


class Executor(ABC):
    """A place where the workers of a launch run.

    An executor is a frozen dataclass, each field of which is a key of the command line with its default
    (``executor.<field>``). A plug-in adds one by its name (``executor`` in ``aimv2/sweeps/executors/registry.py``).

    Where the launcher waits for the workers, an executor has ``num_workers`` and ``starting``. Where they outlive it,
    as jobs of a scheduler, it has ``launch`` in the place of ``starting``, which records the jobs, and ``queue``,
    ``withdraw`` and ``abandoned``. These are of the class, since later commands know the launch by its record only.
    """

    is_display_live: ClassVar[bool] = True  # False where workers print to the launcher's terminal

    @property
    def device(self) -> Literal["cuda", "cpu"] | None:
        """The device that ``device=auto`` means to the workers; None is this machine's."""
        return None

    @property
    def speed_unknown(self) -> str:
        """The reason why a measurement on this machine cannot predict the workers' speed; empty if it can."""
        return "the speed of these workers is not known on this machine"

    @property
    def place(self) -> str:
        """A name for the machines where these workers run: a hash of the executor, without how many and how long."""
        assert dataclasses.is_dataclass(self), "as the registry has checked"
        values = {key: value for key, value in dataclasses.asdict(self).items() if key not in OF_AMOUNT}
        text = json.dumps([type(self).__qualname__, values], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def for_probes(self) -> Self:
        """Return the executor with which probes are submitted, which take a minute or two."""
        return self

    def check(self, runs: Sequence[Program]) -> None:  # noqa: B027
        """Refuse runs that these workers cannot do.

        Raises:
            UsageError: the reason, with the key to change.
        """

    @abstractmethod
    def num_workers(self, runs: Sequence[Program]) -> int:
        """Return the number of workers for these runs; it may be larger than the number of runs.

        Raises:
            UsageError: there is no room for one worker, or for as many as requested.
        """

    def test(self, runs: Sequence[Program], runs_dir: Path) -> str:
        """Test whether a launch of these runs, which passed ``check``, would be accepted, and start nothing.

        Returns:
            A sentence if this machine cannot test it; empty otherwise.

        Raises:
            UsageError: the launch would be refused.
        """
        return ""

    def starting(self, launched: Launched) -> AbstractContextManager[Start]:
        """Return a context within which workers can be started; those that still run when it is left are interrupted.

        The context yields ``start(name)``, which starts a worker and returns its ``poll()``, which returns None while
        the worker runs. A worker is ``sweeps.worker.worker_command(launched.about(name, ...))`` with the variables
        ``launched.environment(cores)``, on any host that sees the runs folder.
        """
        raise NotImplementedError  # the registry refuses an executor that has neither this nor launch

    def launch(self, plan: Plan, work: Work, reports_dir: Path | None, board: Board) -> bool:
        """Save the requests of the plan and have workers do this work, which has a task.

        Args:
            reports_dir: where workers that continue after this process write the report; None for runs of no study.
            board: shows their progress, and has the console.

        Returns:
            True if the work is over, so that the report can be written; False if workers continue after this
            process and write the report themselves.

        Raises:
            UsageError: no worker can run.
            KeyboardInterrupt: the launch was interrupted or cancelled, and the workers released their runs.
        """
        for request in plan.requests:
            write_request(plan.runs_dir, request)
        plan.prepare_data()
        started, num_workers = time.perf_counter(), min(self.num_workers(work.configs), len(work.tasks))
        with at_work(plan.runs_dir, plan.title, work.runs) as launch_dir, board.shown(is_live=self.is_display_live):
            write_work(launch_dir, work)
            new_logs(plan.runs_dir, launch_dir.name)
            launched = Launched(work, launch_dir, num_workers, board)
            with self.starting(launched) as start:
                reports = keep_workers(launched, start)
        if done := sum(len(report.done) for report in reports):
            board.console.print(f"{done} run{'s' * (done > 1)} done in {duration(time.perf_counter() - started)}")
        return True

    @staticmethod
    def queue(launch: ActiveLaunch) -> list[Queued] | None:
        """Return the jobs of a launch (``launch.jobs``) that its scheduler still has.

        Returns:
            None if the scheduler does not answer here, and also if it shows nothing and that proves nothing.
        """
        return None

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        """Withdraw a cancelled launch's waiting workers, and its finalizer job if no worker runs.

        Returns:
            The jobs that stay with the scheduler, with the reason; empty if none does.
        """
        return ""

    @classmethod
    def abandoned(cls, launch: ActiveLaunch) -> bool:
        """True if a launch has submitted all of its jobs and none is left, so that nothing will end it."""
        return launch.jobs is not None and bool(launch.jobs.finalizer) and cls.queue(launch) == []


def check_gpu_sharing(runs_per_gpu: RunsPerGpu, runs: Sequence[Program]) -> None:
    """Refuse runs on the CPU and runs of several ranks, if several are to share a GPU.

    Raises:
        UsageError: naming the key.
    """
    if runs_per_gpu != 1 and any(run.device != "cuda" for run in runs):
        raise UsageError(f"executor.runs_per_gpu={runs_per_gpu} needs runs on a GPU, and these are on the CPU")
    if runs_per_gpu != 1 and (ranks := max(run.ranks for run in runs)) > 1:
        raise UsageError(f"executor.runs_per_gpu={runs_per_gpu} and ranks={ranks}: only runs of one rank share a GPU")


def cores_per_run(runs: Sequence[Program]) -> int:
    """Return the cores that a rank of the largest of these runs needs: its threads and given loader processes."""
    return max(run.threads + (run.loaders or 0) for run in runs)


def cores_to_share(run: Program) -> int:
    """Return the cores that the runs of a GPU share for loader processes, whose number follows from them."""
    return GPU_CORES if run.device == "cuda" and run.loaders is None else 0
