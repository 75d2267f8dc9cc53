"""The interface of executors, and the workers of a launch that waits for them: started, watched and replaced."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from aimv2.ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder
from aimv2.base.processes import imports_from
from aimv2.config.program import Program
from aimv2.run.price import duration
from aimv2.runs.lease import Watch, is_released
from aimv2.sweeps.active_launches import (
    LOGS,
    WORKERS,
    ActiveLaunch,
    Queued,
    at_work,
    cancelled,
    new_logs,
    runs_dir_of,
    skipped,
)
from aimv2.sweeps.board import Board
from aimv2.sweeps.freeze import freeze, worker_environment
from aimv2.sweeps.plan import Plan, Work, write_work
from aimv2.sweeps.worker import WorkerReport, read_report

POLL_SECONDS = 1.0
STOP_SECONDS = 30  # that interrupted workers have to save checkpoints
MAX_IDLE = 3  # workers in a row that ended though runs were free and not one was tried

Poll = Callable[[], int | None]  # returns None while a worker runs, as Popen.poll does
Start = Callable[[str], Poll]  # starts a worker, given its name


@dataclass(frozen=True)
class Launched:
    """A launch whose workers can be started."""

    work: Work
    folder: Path  # its own, in the runs folder
    num_workers: int  # that run at a time; there may be more, one after the other
    board: Board  # shows its progress, and has the console

    def environment(self, cores: int) -> dict[str, str]:
        """Return the environment variables that a worker needs, whose ranks have so many cores each."""
        return worker_environment(self.work.configs[0], cores) | imports_from(freeze(runs_dir_of(self.folder)))

    def log_of(self, name: str) -> Path:
        """Return the path of a worker's log, which outlives the launch."""
        return runs_dir_of(self.folder) / LOGS / self.folder.name / f"{name}.log"

    def about(self, name: str, **values: Any) -> dict[str, Any]:
        """Return what a worker has to know, for ``sweeps.worker``: paths that any host sees, and more of its values."""
        paths = {"launch_dir": str(self.folder.resolve()), "log": str(self.log_of(name).resolve())}
        return {"name": name, **paths, **values}


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

    def check(self, runs: Sequence[Program]) -> None:  # noqa: B027
        """Refuse runs that these workers cannot do: a UsageError with the key to change."""

    @abstractmethod
    def num_workers(self, runs: Sequence[Program]) -> int:
        """Return the number of workers for these runs, perhaps more than there are runs; a UsageError without room."""

    def test(self, runs: Sequence[Program], runs_dir: Path) -> str:
        """Refuse a launch of these runs, which passed ``check``, that would be refused later, and start nothing.

        Returns:
            A sentence if this machine cannot test it; empty otherwise.
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
        """Return the jobs of a launch (``launch.jobs``) that its scheduler still has; None if it does not tell here."""
        return None

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        """Withdraw a cancelled launch's waiting workers, and its finalizer job if no worker runs; return the jobs that
        stay, with the reason."""
        return ""

    @classmethod
    def abandoned(cls, launch: ActiveLaunch) -> bool:
        """True if a launch has submitted all of its jobs and none is left, so that nothing will end it."""
        return launch.jobs is not None and bool(launch.jobs.finalizer) and cls.queue(launch) == []


def cores_per_run(runs: Sequence[Program]) -> int:
    """Return the cores that a rank of the largest of these runs needs: its threads and given loader processes."""
    return max(run.threads + (run.loaders or 0) for run in runs)


@dataclass
class _Started:
    name: str
    num_attempts: int  # at all runs when the worker was started
    poll: Poll


def keep_workers(launched: Launched, start: Start) -> list[WorkerReport]:
    """Keep workers as long as runs are free, until all tasks are over; return their reports.

    A KeyboardInterrupt if the launch was interrupted, or was cancelled and its workers have ended; a UsageError if the
    runs folder cannot be written, or MAX_IDLE workers in a row end before they try a run.
    """
    launch_dir, num_workers, board = launched.folder, launched.num_workers, launched.board
    runs_dir, reports, num_idle = runs_dir_of(launch_dir), list[WorkerReport](), 0
    task_list, left_out, workers = launched.work.task_list(runs_dir), dict[str, str](), list[_Started]()
    try:
        while True:
            for run, reason in skipped(launch_dir).items() - left_out.items():
                left_out[run] = reason
                board.console.print(f"{run} is skipped: {reason}", style="red", soft_wrap=True, markup=False)
            now = task_list.open_tasks().without(left_out)
            ended = [worker for worker in workers if worker.poll() is not None]
            is_cancelled = cancelled(launch_dir) is not None
            for worker in ended:
                workers.remove(worker)
                report = read_report(launch_dir, worker.name)
                if report is None:
                    report = WorkerReport()
                    text = f"a worker ended early; its log is {launched.log_of(worker.name)}"
                    board.console.print(text, style="red", soft_wrap=True)
                reports.append(report)
                if report.problem:  # of its host, unless the runs folder cannot be written from here either
                    writable_folder(str(runs_dir), "runs_dir", needs_links=True)
                    text = f"a worker cannot work: {report.problem}"
                    board.console.print(text, style="red", soft_wrap=True, markup=False)
                # A worker that ran out of time without a try waited for a slot.
                is_excused = is_cancelled or report.was_out_of_time
                is_idle = now.free and (now.num_attempts == worker.num_attempts or report.problem) and not is_excused
                num_idle = num_idle + 1 if is_idle else 0
                if num_idle == MAX_IDLE:
                    why = report.problem or "workers end before they try a run"
                    raise UsageError(f"{why}; their logs are in {runs_dir / LOGS}")
            # All at first, and later those that ended: a worker that is just starting may take what is free.
            folders = [launch_dir / WORKERS / worker.name for worker in workers]
            num_starting = sum(not folder.exists() for folder in folders)  # or waits in a queue, perhaps for ever
            num_stopped = sum(_is_stopped(folder, task_list.watch) for folder in folders)
            if (now.is_over or is_cancelled) and num_starting + num_stopped == len(workers):
                break
            most = 0 if num_starting or is_cancelled else max(len(ended), 1) if reports else num_workers
            for _ in range(min(num_workers - len(workers) + num_stopped, len(now.free), most)):
                name = uuid.uuid4().hex[:12]
                workers.append(_Started(name, now.num_attempts, start(name)))
            board.update()
            if any(worker.poll() is None for worker in workers) or now.held or now.unsure:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        if any(worker.poll() is None for worker in workers):
            board.console.print(
                "interrupted: the workers save checkpoints and release their runs after this step; press Ctrl-C again"
                " to return without waiting for them",
                style="yellow",
                soft_wrap=True,
            )
        raise
    if cancelled(launch_dir) is not None:
        raise KeyboardInterrupt
    return reports


def _is_stopped(worker: Path, watch: Watch) -> bool:
    """True if a worker with this folder has no heartbeat any more, though it has not ended."""
    return watch.sees(worker) == "dead" and worker.exists() and not is_released(worker)
