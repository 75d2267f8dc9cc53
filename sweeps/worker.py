"""A worker: claim a run, do it, and go on to the next, until none is left to claim."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimv2.config import RunConfig
from aimv2.errors import UsageError
from aimv2.lease import LeaseLostError
from aimv2.record import RunFolder
from sweeps.slots import seats

SEAT_POLL_SECONDS = 0.5
TRIES = 2  # of a run whose worker dies without a word: once more, for it may not have been the run's fault


@dataclass(frozen=True)
class Task:
    """A run to do.

    Attributes:
        attempts: how many there had been at launch: a launch tries a failed run once more, not again and again.
    """

    name: str
    config: RunConfig
    attempts: int

    def is_open(self, runs_dir: Path) -> bool:
        """Whether it is still to be done by this launch, or being done."""
        run = RunFolder(runs_dir, self.name)
        state = run.state()
        if state in ("done", "running"):
            return state == "running"
        tried = run.num_attempts - self.attempts
        return tried < (1 if state == "failed" else TRIES)


@dataclass
class WorkerReport:
    """What a worker did, and the CPU seconds that it and its loader processes took.

    Attributes:
        problem: why it could not go on, if that is nothing of a single run (the runs' folder cannot be written, say).
    """

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    was_interrupted: bool = False
    problem: str = ""


def work(
    tasks: list[Task], runs_dir: Path, on_rows: Callable[[list[dict[str, Any]]], None] | None = None
) -> WorkerReport:
    """Do every task that no other worker has, one at a time.

    An interrupt (SIGINT or SIGTERM) hands the run under way back and ends the worker in good order.

    Args:
        on_rows: called with each group of new metric rows, for a display in the same process.
    """
    # First of all: until then submitit swallows SIGTERM.
    signal.signal(signal.SIGTERM, interrupt)
    before = _cpu_seconds()
    report = WorkerReport()
    try:
        while any(task.is_open(runs_dir) for task in tasks):
            with seats(tasks[0].config.threads) as seated:
                if seated:
                    _work_seated(tasks, runs_dir, report, on_rows or (lambda rows: None))
                    break
            time.sleep(SEAT_POLL_SECONDS)
    except KeyboardInterrupt:
        report.was_interrupted = True
    except (UsageError, OSError) as error:
        report.problem = str(error)
    report.cpu_seconds = _cpu_seconds() - before
    return report


def interrupt(signum: int, frame: object) -> None:
    """A signal handler that does what Ctrl-C does."""
    raise KeyboardInterrupt


def _work_seated(
    tasks: list[Task], runs_dir: Path, report: WorkerReport, on_rows: Callable[[list[dict[str, Any]]], None]
) -> None:
    from aimv2.run import execute

    for task in tasks:
        if not task.is_open(runs_dir):
            continue
        attempt = RunFolder(runs_dir, task.name).claim(task.config)
        if attempt is None:
            continue
        try:
            failure = execute(attempt, task.config, on_rows)
        except LeaseLostError:
            continue
        (report.done if failure is None else report.failed).append(task.name)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
