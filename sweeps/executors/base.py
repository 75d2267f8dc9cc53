"""The interface of executors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from aimv2.base.errors import UsageError
from aimv2.config.run_config import RunConfig
from sweeps.active_launches import ActiveLaunch, Queued
from sweeps.plan import Plan
from sweeps.status.board import Board
from sweeps.tasks import Work


def _runs_per_gpu(value: object) -> object:
    if value != "auto" and not (isinstance(value, int) and value > 0):
        raise ValueError(f"{value} must be a number of runs, at least 1, or auto")
    return value


RunsPerGpu = Annotated[int | Literal["auto"], BeforeValidator(_runs_per_gpu)]


class Executor(ABC):
    """A place where the workers of a launch run.

    An executor is a frozen dataclass, each field of which is a key of the command line with its default
    (``executor.<field>``); ``cluster`` is its name.
    """

    cluster: str

    @property
    def device(self) -> Literal["cuda", "cpu"] | None:
        """The device that ``device=auto`` means to the workers; None is this machine's."""
        return None

    @property
    @abstractmethod
    def speed_unknown(self) -> str:
        """The reason why a measurement on this machine cannot predict the workers' speed; empty if it can."""

    @abstractmethod
    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse runs that these workers cannot do.

        Raises:
            UsageError: the reason, with the key to change.
        """

    @abstractmethod
    def num_workers(self, runs: Sequence[RunConfig]) -> int:
        """Return the number of workers for these runs; it may be larger than the number of runs.

        Raises:
            UsageError: there is no room for one worker, or for as many as requested.
        """

    def describe_workers(self, num_workers: int) -> str:
        """Return the workers in words, such as ``8 workers``."""
        return f"{num_workers} worker{'s' * (num_workers > 1)}"

    def test(self, runs: Sequence[RunConfig], runs_dir: Path) -> str:
        """Test whether a launch of these runs, which passed ``check``, would be accepted, and start nothing.

        Returns:
            A sentence if this machine cannot test it; empty otherwise.

        Raises:
            UsageError: the launch would be refused.
        """
        return ""

    @abstractmethod
    def launch(self, plan: Plan, work: Work, reports_dir: Path, board: Board) -> bool:
        """Save the requests of the plan and start workers for this work.

        Args:
            board: shows their progress, and has the console.

        Returns:
            True if the work is over, so that the report can be written; False if workers continue after this
            process and write the report themselves.

        Raises:
            UsageError: no worker can run.
            KeyboardInterrupt: the launch was interrupted or cancelled, and the workers released their runs.
        """

    @staticmethod
    def queue_of(launch: ActiveLaunch) -> list[Queued] | None:
        """Return a launch's jobs in the queue of the scheduler, if this executor has one.

        Returns:
            None if the scheduler does not answer here, and also if the queue shows nothing and that proves nothing.
        """
        return []

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        """Withdraw a cancelled launch's waiting workers, and its finalizer job if no worker runs.

        Returns:
            The jobs that stay in the queue, with the reason; empty if none does.
        """
        return ""


def check_gpu_sharing(runs_per_gpu: RunsPerGpu, runs: Sequence[RunConfig]) -> None:
    """Refuse runs on the CPU and runs of several ranks, if several are to share a GPU.

    Raises:
        UsageError: naming the key.
    """
    if runs_per_gpu != 1 and any(run.device != "cuda" for run in runs):
        raise UsageError(f"executor.runs_per_gpu={runs_per_gpu} needs runs on a GPU, and these are on the CPU")
    if runs_per_gpu != 1 and (ranks := max(run.ranks for run in runs)) > 1:
        raise UsageError(f"executor.runs_per_gpu={runs_per_gpu} and ranks={ranks}: only runs of one rank share a GPU")
