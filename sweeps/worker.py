"""A worker: acquire a run, execute it, and take the next one until no run is left."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import submitit

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.files import share
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import LeaseLostError, file_system_time
from aimv2.runs.record import Attempt, RunFolder
from sweeps.active_launches import WAITING, cancelled, worker_of
from sweeps.machine.room import largest_bytes
from sweeps.machine.slots import run_slots

SLOT_POLL_SECONDS = 0.5
RESERVE_SECONDS = 60.0  # of a worker's time, for the current step and a checkpoint; at most a tenth of that time
TRIES = 2  # of a run whose worker or node failed: a second try, since the run may not be the cause


@dataclass(frozen=True)
class Task:
    """A run to do.

    Attributes:
        tries: number of tries before this launch. A launch tries a failed run once more, not again and again.
    """

    name: str
    config: RunConfig
    tries: int

    def is_open(self, runs_dir: Path) -> bool:
        """True if the run is running or this launch still has to do it."""
        run = RunFolder(runs_dir, self.name)
        state = run.state(file_system_time)
        if state in ("done", "running"):
            return state == "running"
        failure = run.failure() if state == "failed" else None
        return run.num_tries - self.tries < (TRIES if failure is None or failure.cause == "node" else 1)


@dataclass
class WorkerReport:
    """The runs that a worker did, and the time that it took.

    Attributes:
        cpu_seconds: of the worker and its loader processes.
        signal: the signal that interrupted the worker, or None.
        was_out_of_time: True if the worker ended because its time was nearly up.
        was_cancelled: True if its launch was cancelled.
        seconds: wall time since the worker was requested.
        working_seconds: the part of it spent in training and evaluation.
        problem: why the worker cannot do any run (an unwritable runs folder, say); empty if there is no problem.
    """

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    signal: int | None = None
    was_out_of_time: bool = False
    was_cancelled: bool = False
    seconds: float = 0.0
    working_seconds: float = 0.0
    problem: str = ""


def work(
    tasks: Sequence[Task],
    runs_dir: Path,
    on_rows: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    minutes: float | None = None,
    launch_dir: Path | None = None,
    requested_at: float | None = None,
    *,
    takes_slots: bool = True,
    runs_per_gpu: int = 1,
    interrupts: Interrupts | None = None,
) -> WorkerReport:
    """Do every task that no other worker has, one at a time.

    After a signal (SIGINT, SIGTERM, SIGUSR2), or when its time is nearly up, the worker saves a checkpoint, releases
    its run and returns. A run in evaluation is finished when the time is up, but not after a signal.

    Args:
        on_rows: called with each group of new metric rows, for a display in the same process.
        minutes: the worker's time; None is no limit.
        launch_dir: folder of the worker's launch, in which the launch may be cancelled.
        requested_at: when the worker was requested, by ``time.time``; None is now.
        takes_slots: share the machine's cores and GPUs with other launches; False where a scheduler assigns them.
        runs_per_gpu: workers that may share a GPU.
    """
    before, requested_at = _cpu_seconds(), requested_at or time.time()
    share(runs_dir)
    report, interrupts = WorkerReport(), interrupts or Interrupts()
    try:
        # submitit ignores SIGTERM and SIGUSR2 until we listen.
        with interrupts.listening(), worker_of(launch_dir) as folder:
            if minutes is not None:
                interrupts.until(time.monotonic() + seconds_to_work(minutes))
            _Worker(
                tasks, runs_dir, report, on_rows, interrupts, launch_dir, folder, runs_per_gpu if takes_slots else None
            ).wait_and_work()
    except KeyboardInterrupt:
        pass
    except (UsageError, OSError) as error:
        report.problem = str(error)
    report.signal = interrupts.signal
    report.was_out_of_time = interrupts.is_out_of_time
    report.was_cancelled = launch_dir is not None and cancelled(launch_dir) is not None
    report.cpu_seconds = _cpu_seconds() - before
    report.seconds = time.time() - requested_at
    return report


def seconds_to_work(minutes: float) -> float:
    """Return the part of a worker's time after which it ends its run."""
    return 60 * minutes - min(RESERVE_SECONDS, 0.1 * 60 * minutes)


@dataclass
class _Worker:
    """A worker at work.

    Attributes:
        folder: the worker's own, in its launch's; None without a launch.
        runs_per_gpu: workers that may share a GPU; None if the worker takes no slots.
    """

    tasks: Sequence[Task]
    runs_dir: Path
    report: WorkerReport
    on_rows: Callable[[list[dict[str, Any]]], None]
    interrupts: Interrupts
    launch_dir: Path | None
    folder: Path | None
    runs_per_gpu: int | None

    def wait_and_work(self) -> None:
        """Wait for slots, then do every free task."""
        while self.should_continue and any(task.is_open(self.runs_dir) for task in self.tasks):
            with self.slots() as has_slots:
                self._show_waiting(not has_slots)
                if has_slots:
                    self.do_all()
                    return
            time.sleep(SLOT_POLL_SECONDS)

    def slots(self) -> AbstractContextManager[bool]:
        """Try to take the slots that a run computes on. The context yields False if too few are free."""
        if self.runs_per_gpu is None:
            return contextlib.nullcontext(True)
        return run_slots(self.tasks[0].config, lambda: self._memory_needed, self.runs_per_gpu)

    @cached_property
    def _memory_needed(self) -> int:
        return largest_bytes(task.config for task in self.tasks)

    def _show_waiting(self, is_waiting: bool) -> None:
        """Tell other processes that this worker waits for a slot."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):  # a full disk
            if is_waiting:
                (self.folder / WAITING).touch()
            else:
                (self.folder / WAITING).unlink(missing_ok=True)

    @property
    def should_continue(self) -> bool:
        """True unless the worker was interrupted or its launch was cancelled."""
        return not self.interrupts.is_requested and (self.launch_dir is None or cancelled(self.launch_dir) is None)

    def do_all(self) -> None:
        """Do every free task."""
        import aimv2.execute  # noqa: F401  # before a run is acquired: a broken installation is not a run's failure

        for task in self.tasks:
            if task.is_open(self.runs_dir):
                attempt = RunFolder(self.runs_dir, task.name).acquire(task.config, log=_log())
                if attempt is not None:
                    self.do(task, attempt)
                    # Checked after a run and not before it: however short its time, a worker takes a run one step
                    # further.
                    if not self.should_continue:
                        return

    def do(self, task: Task, attempt: Attempt) -> None:
        """Execute an acquired run."""
        from aimv2.execute import execute

        def is_cancelled() -> bool:
            runs = None if self.launch_dir is None else cancelled(self.launch_dir)
            return runs is not None and task.name in runs

        self.interrupts.also_when(is_cancelled)
        try:
            failure = execute(attempt, task.config, self.on_rows, self.interrupts)
        except LeaseLostError:
            pass
        else:
            (self.report.done if failure is None else self.report.failed).append(task.name)
        finally:
            self.report.working_seconds += attempt.working_seconds


def _log() -> str:
    """Return the path of this process's log, which submitit writes; empty if this is no worker process."""
    try:
        return str(submitit.JobEnvironment().paths.stderr.resolve())
    except RuntimeError:
        return ""


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
