"""A worker: acquire a run, execute it, and take the next one until no run is left.

As a process of its own it is ``python -m aimv2.sweeps.worker`` with the folder of the launch and values of a ``Worker``
as JSON.
"""

import contextlib
import json
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, share, writable_folder, write_json
from aimv2.base.interrupt import Interrupts
from aimv2.run.programs import execute, load
from aimv2.run.times import remember
from aimv2.runs.attempt import Attempt
from aimv2.runs.index import FOLDER as INDEX
from aimv2.runs.lease import HEARTBEAT_SECONDS, LeaseLostError, Presence, Watch
from aimv2.runs.record import RunFolder
from aimv2.sweeps.active_launches import WORKERS, cancelled, runs_dir_of, skip, skipped
from aimv2.sweeps.machine import largest_bytes, run_slots
from aimv2.sweeps.plan import Task, TaskList, Work, read_work

SLOT_POLL_SECONDS = 0.5
WATCH_POLL_SECONDS = 5.0  # between two looks at heartbeats
MAX_WITHOUT_SPACE = 2  # runs that may find the disk full before the worker ends; the next runs would find it full too
BEAT_SECONDS = 3 * HEARTBEAT_SECONDS  # of a worker; its run has a heartbeat too
REPORT = "report.json"  # in the worker's folder

OnRows = Callable[[list[dict[str, Any]]], None]


@dataclass
class WorkerReport:
    """The runs that a worker did, by their names, and why it ended."""

    done: list[str] = field(default_factory=list)
    signal: int | None = None  # that interrupted it
    problem: str = ""  # why it cannot do any run, such as a runs folder that cannot be written


def read_report(launch_dir: Path, name: str) -> WorkerReport | None:
    """Return the report of a worker that has ended; None if it died before it could write one."""
    with contextlib.suppress(UsageError):
        return WorkerReport(**read_json(launch_dir / WORKERS / name / REPORT))
    return None


@dataclass
class Worker:
    """Does one task after the other, until each is over or has a worker that is seen to be alive."""

    work_to_do: Work  # its run with the most ranks decides which slots the worker takes
    launch_dir: Path  # in which the launch may be cancelled
    on_rows: OnRows = lambda rows: None  # called with each group of new metric rows, for a display in this process
    runs_per_gpu: int | None = 1  # workers that share a GPU; None where a scheduler assigns cores and GPUs: no slots
    interrupts: Interrupts = field(default_factory=Interrupts)
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    log: str = ""  # path of this process's output, recorded for the user; empty if there is none
    report: WorkerReport = field(default_factory=WorkerReport, init=False)
    num_without_space: int = field(default=0, init=False)

    @property
    def runs_dir(self) -> Path:
        return runs_dir_of(self.launch_dir)

    @cached_property
    def task_list(self) -> TaskList:
        return self.work_to_do.task_list(self.runs_dir, Watch(doubts_processes=True))

    def work(self) -> WorkerReport:
        """Work, and return the report, which is also written to the worker's folder.

        After a signal (``aimv2.base.interrupt.SIGNALS``) the worker saves a checkpoint, releases its run and returns.
        """
        report, own = self.report, self.launch_dir / WORKERS / self.name
        share(self.runs_dir)
        try:
            own.mkdir(parents=True)
            # submitit ignores SIGTERM and SIGUSR2 until we listen. While a worker is present its launch is active, even
            # if the launcher was killed.
            with self.interrupts.listening(), Presence(own, beat_seconds=BEAT_SECONDS):
                self._work()
        except KeyboardInterrupt:
            pass
        except (UsageError, OSError) as error:
            report.problem = str(error)
        report.signal = self.interrupts.signal
        with contextlib.suppress(OSError):  # a full disk
            write_json(own / REPORT, asdict(report))
        return report

    def _work(self) -> None:
        """Work until nothing is free."""
        config, was_told = max(self.work_to_do.configs, key=lambda one: one.ranks), False
        memory_needed = cache(partial(largest_bytes, self.work_to_do.configs))
        while cancelled(self.launch_dir) is None:
            now, pause = self.task_list.open_tasks().without(skipped(self.launch_dir)), WATCH_POLL_SECONDS
            if not (now.free or now.unsure):
                return
            if now.free:
                pause = SLOT_POLL_SECONDS
                with run_slots(config, memory_needed, self.runs_per_gpu) as gpus:
                    if gpus is None and not was_told:
                        print("waiting for a free core, GPU or memory", file=sys.stderr)
                        was_told = True
                    while gpus is not None and self._do_one(gpus):
                        if config.ranks > 1 and self.runs_per_gpu is None:
                            return  # the other ranks have ended too; only a new job starts all of them
                        pause = 0.0
                        if self.interrupts.was_signalled or cancelled(self.launch_dir) is not None:
                            break
            if self.interrupts.was_signalled:
                return
            time.sleep(pause)

    def _do_one(self, gpus: Sequence[int]) -> bool:
        """Do the first task that can be acquired. Return False if there is none."""
        load(self.work_to_do.configs)  # before a run is acquired: a broken installation is not a run's failure
        left_out = skipped(self.launch_dir)
        for task in self.task_list.take():
            attempt = None if task.name in left_out else self._acquire(task)
            if attempt is None:
                continue
            self.interrupts.also_when(partial(_must_release, task, self.launch_dir))
            try:
                failure = execute(task.config, attempt, self.on_rows, self.interrupts, trained=task.trained, gpus=gpus)
            except LeaseLostError:
                return True
            if failure is None:
                self.report.done.append(task.name)
                remember(task.priced, attempt.run)
            elif failure.cause == "no space":
                self.num_without_space += 1
                if self.num_without_space == MAX_WITHOUT_SPACE:
                    raise UsageError(f"{self.num_without_space} runs found no space: {failure.message}")
            return True
        return False

    def _acquire(self, task: Task) -> Attempt | None:
        """Acquire the run of a task, or skip it if its folder cannot be written; None if another worker may hold it."""
        run = RunFolder(self.runs_dir, task.name)
        with contextlib.suppress(UsageError):
            return run.acquire(task.config, log=self.log, watch=self.task_list.watch)
        for folder in (self.runs_dir, self.runs_dir / INDEX):
            writable_folder(str(folder), "runs_dir")
        try:
            return run.acquire(task.config, log=self.log, watch=self.task_list.watch)
        except UsageError as error:
            skip(self.launch_dir, task.name, str(error))
            self.task_list.skip(task, str(error))
            return None


def worker_command(launch_dir: Path, **values: Any) -> list[str]:
    """Return the command of a worker of this launch that has these values, for its own process."""
    return [sys.executable, "-m", "aimv2.sweeps.worker", json.dumps({"launch_dir": str(launch_dir), **values})]


def _must_release(task: Task, launch_dir: Path) -> bool:
    """True if the launch was cancelled and no other one has the run; a trial belongs to its launch alone."""
    released = cancelled(launch_dir)
    return released is not None and (task.name in released or task.trial is not None)


if __name__ == "__main__":
    # A terminal sends these to all processes that were started in it. Only the launcher acts on them.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    given = json.loads(sys.argv[1])
    launched_in = Path(given.pop("launch_dir"))
    sys.exit(Worker(read_work(launched_in), launched_in, **given).work().problem or 0)
