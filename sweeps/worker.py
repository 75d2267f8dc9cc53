"""A worker: claim a run, do it, and go on to the next, until none is left to claim."""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from aimv2.config import RunConfig
from aimv2.lease import LeaseLostError
from aimv2.record import RunFolder
from sweeps.slots import seat

SEAT_POLL_SECONDS = 0.5


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
        """Whether it is still to be done by this launch."""
        run = RunFolder(runs_dir, self.name)
        return not run.is_done and not (run.state() == "failed" and run.num_attempts > self.attempts)


@dataclass
class WorkerReport:
    """What a worker did. Seconds are of the whole process, start-up included."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    was_interrupted: bool = False


def work(tasks: list[Task], runs_dir: Path, num_seats: int, num_threads: int) -> WorkerReport:
    """Do every task that no other worker has, on ``num_threads`` threads, one at a time.

    An interrupt (SIGINT or SIGTERM) hands the run under way back and ends the worker in good order.
    """
    import torch

    torch.set_num_threads(num_threads)
    signal.signal(signal.SIGTERM, interrupt)
    report = WorkerReport()
    try:
        while any(task.is_open(runs_dir) for task in tasks):
            with seat(num_seats) as seated:
                if seated:
                    _work_seated(tasks, runs_dir, report)
                    break
            time.sleep(SEAT_POLL_SECONDS)
    except KeyboardInterrupt:
        report.was_interrupted = True
    report.cpu_seconds = time.process_time()
    return report


def interrupt(signum: int, frame: object) -> None:
    """A signal handler that does what Ctrl-C does."""
    raise KeyboardInterrupt


def _work_seated(tasks: list[Task], runs_dir: Path, report: WorkerReport) -> None:
    from aimv2.run import execute

    for task in tasks:
        if not task.is_open(runs_dir):
            continue
        attempt = RunFolder(runs_dir, task.name).claim(task.config)
        if attempt is None:
            continue
        try:
            failure = execute(attempt, task.config)
        except LeaseLostError:
            continue
        (report.done if failure is None else report.failed).append(task.name)
