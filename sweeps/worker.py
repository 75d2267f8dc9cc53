"""A worker: claim a run, do it, and go on to the next, until none is left to claim."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimv2.config import RunConfig
from aimv2.errors import UsageError
from aimv2.interrupt import Interrupts
from aimv2.lease import LeaseLostError
from aimv2.record import RunFolder
from sweeps.slots import seats

SEAT_POLL_SECONDS = 0.5
RESERVE_SECONDS = 60.0  # of a worker's time, for the step under way and a checkpoint; no more than a tenth of it
TRIES = 2  # of a run whose worker dies without a word: once more, for it may not have been the run's fault


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
        run = RunFolder(runs_dir, self.name)
        state = run.state()
        if state in ("done", "running"):
            return state == "running"
        tried = run.num_tries - self.tries
        return tried < (1 if state == "failed" else TRIES)


@dataclass
class WorkerReport:
    """What a worker did, and the CPU seconds that it and its loader processes took.

    Attributes:
        was_interrupted: by a signal.
        was_out_of_time: it ended because its time was nearly up.
        problem: why it could not go on, if that is nothing of a single run (the runs' folder cannot be written, say).
    """

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    was_interrupted: bool = False
    was_out_of_time: bool = False
    problem: str = ""


def work(
    tasks: list[Task],
    runs_dir: Path,
    on_rows: Callable[[list[dict[str, Any]]], None] | None = None,
    minutes: float | None = None,
) -> WorkerReport:
    """Do every task that no other worker has, one at a time.

    A signal (SIGINT, SIGTERM, SIGUSR2) or the end of its time makes it keep a checkpoint, hand the run under way back
    and end in good order. A run that is being evaluated is finished when the time ends, but not after a signal.

    Args:
        on_rows: called with each group of new metric rows, for a display in the same process.
        minutes: the worker's time; None is no limit.
    """
    before = _cpu_seconds()
    report, interrupts = WorkerReport(), Interrupts()
    if minutes is not None:
        interrupts.until(time.monotonic() + 60 * minutes - min(RESERVE_SECONDS, 0.1 * 60 * minutes))
    try:
        with interrupts.listening():  # until then submitit swallows SIGTERM and SIGUSR2
            _work_once_seated(tasks, runs_dir, report, on_rows or (lambda rows: None), interrupts)
    except KeyboardInterrupt:
        pass
    except (UsageError, OSError) as error:
        report.problem = str(error)
    report.was_interrupted = interrupts.was_signalled
    report.was_out_of_time = interrupts.is_out_of_time
    report.cpu_seconds = _cpu_seconds() - before
    return report


def _work_once_seated(
    tasks: list[Task],
    runs_dir: Path,
    report: WorkerReport,
    on_rows: Callable[[list[dict[str, Any]]], None],
    interrupts: Interrupts,
) -> None:
    while any(task.is_open(runs_dir) for task in tasks):
        with seats(tasks[0].config.threads) as seated:
            if seated:
                _work_seated(tasks, runs_dir, report, on_rows, interrupts)
                return
        if interrupts.is_requested:
            return
        time.sleep(SEAT_POLL_SECONDS)


def _work_seated(
    tasks: list[Task],
    runs_dir: Path,
    report: WorkerReport,
    on_rows: Callable[[list[dict[str, Any]]], None],
    interrupts: Interrupts,
) -> None:
    from aimv2.run import execute

    for task in tasks:
        if not task.is_open(runs_dir):
            continue
        attempt = RunFolder(runs_dir, task.name).claim(task.config)
        if attempt is None:
            continue
        try:
            failure = execute(attempt, task.config, on_rows, interrupts)
        except LeaseLostError:
            pass
        else:
            (report.done if failure is None else report.failed).append(task.name)
        # Asked after a run and not before: however short its time is, a seated worker takes a run one step further.
        if interrupts.is_requested:
            return


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
