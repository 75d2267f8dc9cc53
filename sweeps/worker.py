"""A worker: claim a run, do it, and go on to the next, until none is left to claim."""

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import submitit

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.failure import Failure
from aimv2.runs.files import share
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import LeaseLostError, file_system_time
from aimv2.runs.record import Attempt, RunFolder
from sweeps.active_launches import SEATLESS, cancelled, worker_of
from sweeps.machine.room import largest_bytes
from sweeps.machine.slots import seated

SEAT_POLL_SECONDS = 0.5
RESERVE_SECONDS = 60.0  # of a worker's time, for the step under way and a checkpoint; no more than a tenth of it
TRIES = 2  # of a run whose worker or node fails it: once more, for it may not have been the run's fault


@dataclass(frozen=True)
class Task:
    """A run to do.

    Attributes:
        tries: how many there had been at launch: a launch tries a failed run once more, not again and again.
    """

    name: str
    config: RunConfig
    tries: int

    def is_open(self, runs_dir: Path) -> bool:
        """Whether it is still to be done by this launch, or being done."""
        return self._is_open(runs_dir, if_running=True)

    def is_free(self, runs_dir: Path) -> bool:
        """Whether it is still to be done by this launch, and nobody is at it."""
        return self._is_open(runs_dir, if_running=False)

    def _is_open(self, runs_dir: Path, *, if_running: bool) -> bool:
        run = RunFolder(runs_dir, self.name)
        state = run.state(file_system_time)
        if state in ("done", "running"):
            return state == "running" and if_running
        failure = run.failure() if state == "failed" else None
        return run.num_tries - self.tries < (TRIES if failure is None or failure.cause == "node" else 1)


@dataclass
class WorkerReport:
    """What a worker did, and the CPU seconds that it and its loader processes took.

    Attributes:
        signal: that interrupted it, or None.
        was_out_of_time: it ended because its time was nearly up.
        was_cancelled: its launch was.
        seconds: wall time from when the worker was asked for; of a worker with several processes, all of theirs.
        working_seconds: of that, in training and evaluation.
        problem: why it could not go on, if that is nothing of a single run (the runs' folder cannot be written, say).
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
    tasks: list[Task],
    runs_dir: Path,
    on_rows: Callable[[list[dict[str, Any]]], None] | None = None,
    minutes: float | None = None,
    launch: Path | None = None,
    asked_for: float | None = None,
    *,
    takes_seats: bool = True,
    kind: "Callable[..., Work] | None" = None,
    interrupts: Interrupts | None = None,
) -> WorkerReport:
    """Do every task that no other worker has, one at a time.

    A signal (SIGINT, SIGTERM, SIGUSR2) or the end of its time makes it keep a checkpoint, hand the run under way back
    and end in good order. A run that is being evaluated is finished when the time ends, but not after a signal.

    Args:
        on_rows: called with each group of new metric rows, for a display in the same process.
        minutes: the worker's time; None is no limit.
        launch: the launch's folder, in which it may be cancelled.
        asked_for: when the worker was, by ``time.time``; its wall time counts from there, or from now.
        takes_seats: share the machine's cores and GPUs with other launches; not where a scheduler gives them out.
        kind: makes what does the work of what ``Work`` is made of; None is ``Work`` itself.
    """
    before, asked_for = _cpu_seconds(), asked_for or time.time()
    share(runs_dir)
    report, interrupts = WorkerReport(), interrupts or Interrupts()
    try:
        # Until it listens submitit swallows SIGTERM and SIGUSR2.
        with interrupts.listening(), worker_of(launch) as folder:
            if minutes is not None:
                interrupts.until(time.monotonic() + 60 * minutes - min(RESERVE_SECONDS, 0.1 * 60 * minutes))
            told = on_rows or (lambda rows: None)
            (kind or Work)(tasks, runs_dir, report, told, interrupts, launch, folder, takes_seats).until_done()
    except KeyboardInterrupt:
        pass
    except (UsageError, OSError) as error:
        report.problem = str(error)
    report.signal = interrupts.signal
    report.was_out_of_time = interrupts.is_out_of_time
    report.was_cancelled = launch is not None and cancelled(launch) is not None
    report.cpu_seconds = _cpu_seconds() - before
    report.seconds = max(report.seconds, time.time() - asked_for)
    return report


@dataclass
class Work:
    """What a worker has before it."""

    tasks: list[Task]
    runs_dir: Path
    report: WorkerReport
    on_rows: Callable[[list[dict[str, Any]]], None]
    interrupts: Interrupts
    launch: Path | None
    folder: Path | None
    takes_seats: bool

    def until_done(self) -> None:
        """Wait for seats, then do every task that is free."""
        while self.is_wanted and any(task.is_open(self.runs_dir) for task in self.tasks):
            with self.seated() as is_seated:
                self._say_seatless(not is_seated)
                if is_seated:
                    self.do_all()
                    return
            time.sleep(SEAT_POLL_SECONDS)

    def seated(self) -> AbstractContextManager[bool]:
        """Try to take what one run computes on, where seats are taken; gives whether there is enough."""
        if not self.takes_seats:
            return contextlib.nullcontext(True)
        return seated(self.tasks[0].config, lambda: self._memory_needed)

    @cached_property
    def _memory_needed(self) -> int:
        return largest_bytes(task.config for task in self.tasks)

    def _say_seatless(self, is_seatless: bool) -> None:
        """So that others can tell why it does nothing."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):  # a full disk
            if is_seatless:
                (self.folder / SEATLESS).touch()
            else:
                (self.folder / SEATLESS).unlink(missing_ok=True)

    @property
    def is_wanted(self) -> bool:
        """Whether nobody has asked it to stop."""
        return not self.interrupts.is_requested and (self.launch is None or cancelled(self.launch) is None)

    def do_all(self) -> None:
        """Do every task that is free, from a seat."""
        import aimv2.execute  # noqa: F401  # before a run is claimed, for a broken installation is no run's fault

        for task in self.tasks:
            if task.is_open(self.runs_dir):
                attempt = RunFolder(self.runs_dir, task.name).acquire(task.config, log=_log())
                if attempt is not None:
                    self.do(task, attempt)
                    # Asked after a run and not before: however short its time is, a seated worker takes a run one
                    # step further.
                    if not self.is_wanted:
                        return

    def hands_back(self, failure: Failure) -> bool:
        """As in ``aimv2.execute.execute``."""
        return False

    def do(self, task: Task, attempt: Attempt) -> None:
        """Do a run that is claimed."""
        from aimv2.execute import execute

        def is_cancelled() -> bool:
            runs = None if self.launch is None else cancelled(self.launch)
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
    """Where submitit puts what this process prints; nowhere when it is no worker process."""
    try:
        return str(submitit.JobEnvironment().paths.stderr.resolve())
    except RuntimeError:
        return ""


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
