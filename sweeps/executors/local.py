"""Workers that the launcher waits for: processes of this machine, or this process itself."""

import math
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder
from aimv2.base.processes import imports_from
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.run.price import duration
from aimv2.runs.lease import is_released
from aimv2.sweeps.active_launches import LOGS, WORKERS, at_work, cancelled, runs_dir_of, skipped
from aimv2.sweeps.board import Board
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.freeze import freeze, worker_environment
from aimv2.sweeps.machine import HERE, Machine, max_ranks, room
from aimv2.sweeps.plan import Plan, Work, write_work
from aimv2.sweeps.worker import Worker, WorkerReport, read_report, worker_command

POLL_SECONDS = 1.0
STOP_POLL_SECONDS = 0.5
STOP_SECONDS = 30  # that interrupted workers have to save checkpoints
MAX_IDLE = 3  # workers in a row that ended though runs were free and not one was tried

Poll = Callable[[], int | None]  # returns None while a worker runs, as Popen.poll does
Start = Callable[[str], Poll]  # starts a worker, given its name


class Launched(NamedTuple):
    """A launch whose workers can be started."""

    work: Work
    folder: Path  # its own, in the runs folder
    num_workers: int  # that run at a time; there may be more, one after the other
    board: Board  # shows its progress, and has the console

    def log_of(self, name: str) -> Path:
        """Return the path of a worker's log, which outlives the launch."""
        return runs_dir_of(self.folder) / LOGS / self.folder.name / f"{name}.log"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalExecutor(Executor):
    """Workers as processes on this machine. Each does one run after the other; it is rank 0 of a run of several ranks,
    and starts the others.

    Attributes:
        workers: None is as many as fit the machine (cores, memory, GPUs).
        runs_per_gpu: workers that share a GPU.
    """

    is_display_live: ClassVar[bool] = True  # False where workers print to the launcher's terminal
    workers: int | None = Field(default=None, gt=0)
    runs_per_gpu: int = Field(default=1, gt=0)

    @property
    def speed_unknown(self) -> str:
        return "" if self.runs_per_gpu == 1 else "the speed of runs that share a GPU is not known"

    def check(self, runs: Sequence[Program]) -> None:
        """Refuse runs that cannot share a GPU: those on the CPU and those of several ranks."""
        if self.runs_per_gpu != 1 and any(run.device != "cuda" for run in runs):
            raise UsageError(f"executor.runs_per_gpu={self.runs_per_gpu} needs runs on a GPU, and these are on the CPU")
        if self.runs_per_gpu != 1 and (ranks := max_ranks(runs)) > 1:
            raise UsageError(
                f"executor.runs_per_gpu={self.runs_per_gpu} and ranks={ranks}: only runs of one rank share"
            )

    def num_workers(self, runs: Sequence[Program], machine: Machine = HERE) -> int:
        here = room(runs, self.runs_per_gpu, machine)
        if here.workers == 0:
            raise UsageError(f"no run fits this machine: it {here.limit}")
        if self.workers is not None and self.workers > here.workers:
            raise UsageError(
                f"executor.workers={self.workers} is more than the {here.workers} that fit: this machine {here.limit}"
            )
        return self.workers or here.workers

    def launch(self, plan: Plan, work: Work, reports_dir: Path | None, board: Board) -> bool:
        for request in plan.requests:
            write_request(plan.runs_dir, request)
        plan.prepare_data()
        started, num_workers = time.perf_counter(), min(self.num_workers(work.configs), len(work.tasks))
        with at_work(plan.runs_dir, plan.title, work.runs) as launch_dir, board.shown(is_live=self.is_display_live):
            write_work(launch_dir, work)
            (plan.runs_dir / LOGS / launch_dir.name).mkdir(parents=True)
            launched = Launched(work, launch_dir, num_workers, board)
            with self._starting(launched) as start:
                reports = keep_workers(launched, start)
        if done := sum(len(report.done) for report in reports):
            board.console.print(f"{done} run{'s' * (done > 1)} done in {duration(time.perf_counter() - started)}")
        return True

    @contextmanager
    def _starting(self, launched: Launched) -> Iterator[Start]:
        """Yield what starts a worker; those that still run at the end of the context are interrupted."""
        configs, processes = launched.work.configs, list[subprocess.Popen[bytes]]()
        cores = max(HERE.num_cores() // (launched.num_workers * max_ranks(configs)), 1)  # of each rank
        folder = launched.folder.resolve()
        variables = worker_environment(configs[0], cores) | imports_from(freeze(runs_dir_of(folder)))

        def start(name: str) -> Poll:
            log = launched.log_of(name).resolve()
            command = worker_command(folder, name=name, log=str(log), runs_per_gpu=self.runs_per_gpu)
            with log.open("w") as file:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | variables
                )
            processes.append(process)
            return process.poll

        try:
            yield start
        finally:
            if not stop(processes, STOP_SECONDS):
                text = "some workers are still running; they stop after their current step"
                launched.board.console.print(text, style="yellow")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DebugExecutor(LocalExecutor):
    """One worker in this process: slower, but a debugger and print statements reach it, or rank 0 of several."""

    is_display_live: ClassVar[bool] = False
    workers: Literal[1] = 1

    @contextmanager
    def _starting(self, launched: Launched) -> Iterator[Start]:
        def start(name: str) -> Poll:
            update, shares = (lambda rows: launched.board.update()), self.runs_per_gpu
            worker = Worker(launched.work, launched.folder, update, name=name, runs_per_gpu=shares)
            if worker.work().signal is not None:
                raise KeyboardInterrupt
            return lambda: 0

        yield start


class _Started(NamedTuple):
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
                is_idle = now.free and (now.num_attempts == worker.num_attempts or report.problem) and not is_cancelled
                num_idle = num_idle + 1 if is_idle else 0
                if num_idle == MAX_IDLE:
                    why = report.problem or "workers end before they try a run"
                    raise UsageError(f"{why}; their logs are in {runs_dir / LOGS}")
            # All at first, and later those that ended: a worker that is just starting may take what is free.
            folders = [launch_dir / WORKERS / worker.name for worker in workers]
            num_starting = sum(not folder.exists() for folder in folders)
            stopped = (folder for folder in folders if task_list.watch.sees(folder) == "dead")  # without a heartbeat
            num_stopped = sum(folder.exists() and not is_released(folder) for folder in stopped)
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


def stop(processes: Sequence[subprocess.Popen[bytes]], seconds: float = math.inf) -> bool:
    """Interrupt workers and wait for their end. Return False if some still run after these seconds."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(STOP_POLL_SECONDS)
    return True
