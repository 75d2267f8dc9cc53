"""Workers on this machine: processes (``executor=local``), or this process itself (``executor=debug``)."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from rich.console import Console

from ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from aimv2.run.pricing.price import duration
from aimv2.runs.lease import Watch, is_released
from sweeps.active_launches import LOGS, WORKERS, at_work, cancelled, new_logs, runs_dir_of, skipped
from sweeps.executors.base import Executor, RunsPerGpu, check_gpu_sharing
from sweeps.freeze import freeze, worker_environment
from sweeps.machine.room import HERE, Machine, max_ranks, resolve_runs_per_gpu, room
from sweeps.plan import Plan
from sweeps.status.board import Board
from sweeps.tasks import OpenTasks, Work, write_work
from sweeps.worker import Process, Worker, WorkerReport, read_report, start_worker, stop

POLL_SECONDS = 1.0
STOP_SECONDS = 30
MAX_IDLE = 3  # workers in a row that ended though runs were free and not one was tried

# Starts a worker, given its name, and returns a function that returns None while the worker runs, as Popen.poll does.
Start = Callable[[str], Callable[[], int | None]]


@dataclass
class StartedWorker:
    """A worker of a launch: its state, and how many attempts there were when it was started."""

    name: str
    num_attempts: int
    poll: Callable[[], int | None]


@checked_dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalExecutor(Executor):
    """Workers as processes on this machine.

    Attributes:
        workers: by default as many as fit the machine (cores, memory, GPUs). Each does one run after the other. It is
            rank 0 of a run of several ranks, and starts the others.
        minutes: a worker's time; None is no limit.
        runs_per_gpu: workers that share a GPU; ``auto`` is as many as its memory holds, by prediction.
    """

    cluster: Literal["debug", "local"] = "local"
    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    runs_per_gpu: RunsPerGpu = 1

    @property
    def speed_unknown(self) -> str:
        return "" if self.runs_per_gpu == 1 else "the speed of runs that share a GPU is not known"

    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse runs that cannot share a GPU."""
        check_gpu_sharing(self.runs_per_gpu, runs)

    def num_workers(self, runs: Sequence[RunConfig], machine: Machine = HERE) -> int:
        here = room(runs, resolve_runs_per_gpu(self.runs_per_gpu, runs, machine), machine)
        if here.workers == 0:
            raise UsageError(f"no run fits this machine: it {here.limit}")
        if self.workers is not None and self.workers > here.workers:
            raise UsageError(
                f"executor.workers={self.workers} is more than the {here.workers} that fit: this machine {here.limit}"
            )
        return self.workers or here.workers

    def launch(self, plan: Plan, work: Work, reports_dir: Path, board: Board) -> bool:
        """Do the work, and return when all is over."""
        for request in plan.requests:
            write_request(plan.runs_dir, request)
        plan.prepare_data()
        self.complete(plan, work, board)
        return True

    def complete(self, plan: Plan, work: Work, board: Board) -> None:
        """Do the work, and return when each of its tasks is over (``sweeps.tasks``).

        A worker that ends while runs are free is replaced.

        Raises:
            KeyboardInterrupt: the launch was interrupted or cancelled, and the workers released their runs.
            UsageError: no worker can run here, or the code snapshot was changed.
        """
        if not work.tasks:
            return
        started, num_workers = time.perf_counter(), min(self.num_workers(work.configs), len(work.tasks))
        with (
            at_work(plan.runs_dir, plan.title, work.runs) as launch_dir,
            board.shown(is_live=self.cluster != "debug"),
            self._starting(work, launch_dir, board, num_workers) as start,
        ):
            reports = keep_workers(work, launch_dir, num_workers, start, board)
        if done := sum(len(report.done) for report in reports):
            board.console.print(f"{done} run{'s' * (done > 1)} done in {duration(time.perf_counter() - started)}")

    @contextmanager
    def _starting(self, work: Work, launch_dir: Path, board: Board, num_workers: int) -> Iterator[Start]:
        """Yield a function that starts one of so many workers; stop those that still run when the context is left."""
        cores = max(HERE.num_cores() // (num_workers * max_ranks(work.configs)), 1)  # of each rank
        runs_per_gpu, processes = resolve_runs_per_gpu(self.runs_per_gpu, work.configs), list[Process]()

        def start(name: str) -> Callable[[], int | None]:
            log = log_of(launch_dir, name).resolve()
            # The import path decides which code a worker runs.
            path = os.pathsep.join(filter(None, [str(freeze(runs_dir_of(launch_dir))), os.environ.get("PYTHONPATH")]))
            environment = os.environ | worker_environment(work.configs[0], cores) | {"PYTHONPATH": path}
            values = {"name": name, "log": str(log), "minutes": self.minutes, "runs_per_gpu": runs_per_gpu}
            with log.open("w") as output:
                process = start_worker(launch_dir, output=output, environment=environment, **values)
            processes.append(process)
            return process.poll

        write_work(launch_dir, work)
        new_logs(runs_dir_of(launch_dir), launch_dir.name)
        try:
            yield start
        except KeyboardInterrupt:
            if any(process.poll() is None for process in processes):
                board.console.print(
                    "interrupted: the workers save checkpoints and release their runs after this step; press Ctrl-C"
                    " again to return without waiting for them",
                    style="yellow",
                    soft_wrap=True,
                )
            raise
        finally:
            if not stop(processes, STOP_SECONDS):
                board.console.print(
                    "some workers are still running; they stop after their current step", style="yellow"
                )


@checked_dataclass(frozen=True, kw_only=True, config=CHECKED)
class DebugExecutor(LocalExecutor):
    """One worker in this process: slower, but a debugger and print statements reach it, or rank 0 of several."""

    cluster: Literal["debug", "local"] = "debug"
    workers: Literal[1] = 1

    @contextmanager
    def _starting(self, work: Work, launch_dir: Path, board: Board, num_workers: int) -> Iterator[Start]:
        runs_per_gpu = resolve_runs_per_gpu(self.runs_per_gpu, work.configs)

        def start(name: str) -> Callable[[], int]:
            worker = partial(Worker, work, launch_dir, lambda rows: board.update(), name=name)
            if worker(minutes=self.minutes, runs_per_gpu=runs_per_gpu).work().signal is not None:
                raise KeyboardInterrupt
            return lambda: 0

        yield start


def keep_workers(work: Work, launch_dir: Path, num_workers: int, start: Start, board: Board) -> list[WorkerReport]:
    """Keep ``num_workers`` workers as long as runs are free, until all tasks are over; return their reports.

    Raises:
        KeyboardInterrupt: the launch was cancelled, and its workers have ended.
        UsageError: the problem of a worker, or workers end before they try a run.
    """
    workers, reports, num_idle = list[StartedWorker](), list[WorkerReport](), 0
    task_list, left_out = work.task_list(runs_dir_of(launch_dir)), dict[str, str]()

    def open_tasks() -> OpenTasks:
        for run, reason in skipped(launch_dir).items() - left_out.items():
            left_out[run] = reason
            board.console.print(f"{run} is skipped: {reason}", style="red", soft_wrap=True, markup=False)
        return task_list.open_tasks().without(left_out)

    while not (now := open_tasks()).is_over or workers:
        ended = [worker for worker in workers if worker.poll() is not None]
        is_cancelled = cancelled(launch_dir) is not None
        for worker in ended:
            workers.remove(worker)
            report = report_of(worker, launch_dir, board.console)
            reports.append(report)
            if report.problem:
                raise UsageError(report.problem)
            # A worker that ran out of time without a try waited for a slot.
            is_excused = is_cancelled or report.was_out_of_time
            is_idle = now.free and now.num_attempts == worker.num_attempts and not is_excused
            num_idle = num_idle + 1 if is_idle else 0
            if num_idle == MAX_IDLE:
                logs = runs_dir_of(launch_dir) / LOGS
                raise UsageError(f"workers end before they try a run; their logs are in {logs}")
        # All at first, and later those that ended: a worker that is just starting may take what is free.
        folders = [launch_dir / WORKERS / worker.name for worker in workers]
        is_starting = not all(folder.exists() for folder in folders)
        num_stopped = sum(_is_stopped(folder, task_list.watch) for folder in folders)
        if (now.is_over or is_cancelled) and num_stopped == len(workers):
            break
        most = 0 if is_starting or is_cancelled else max(len(ended), 1) if reports else num_workers
        for _ in range(min(num_workers - len(workers) + num_stopped, len(now.free), most)):
            name = uuid.uuid4().hex[:12]
            workers.append(StartedWorker(name, now.num_attempts, start(name)))
        board.update()
        if not all(worker.poll() is not None for worker in workers) or now.held or now.unsure:
            time.sleep(POLL_SECONDS)
    if cancelled(launch_dir) is not None:
        raise KeyboardInterrupt
    return reports


def _is_stopped(worker: Path, watch: Watch) -> bool:
    """True if a worker with this folder has no heartbeat any more, though it has not ended."""
    return watch.sees(worker) == "dead" and worker.exists() and not is_released(worker)


def report_of(worker: StartedWorker, launch_dir: Path, console: Console) -> WorkerReport:
    """Return a worker's report. One that died is taken to have done no work."""
    report = read_report(launch_dir, worker.name)
    if report is None:
        log = log_of(launch_dir, worker.name)
        console.print(f"a worker ended early; its log is {log}", style="red", soft_wrap=True)
        report = WorkerReport()
    return report


def log_of(launch_dir: Path, worker: str) -> Path:
    """Return the path of a local worker's log, which outlives its launch."""
    return runs_dir_of(launch_dir) / LOGS / launch_dir.name / f"{worker}.log"
