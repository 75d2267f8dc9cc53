"""Workers on this machine: processes (``executor=local``), or this process itself (``executor=debug``)."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from rich.console import Console
from submitit.helpers import environment_variables

from ablations.request import Request, write_request
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.lease import Watch, is_released
from sweeps.active_launches import LOGS, WORKERS, at_work, new_logs, runs_dir_of
from sweeps.executors.base import Executor, RunsPerGpu, check_gpu_sharing
from sweeps.freeze import freeze, worker_environment
from sweeps.machine.room import HERE, Machine, num_cores, resolve_runs_per_gpu, room, shortage
from sweeps.plan import Plan
from sweeps.status.board import Board
from sweeps.status.runs import duration
from sweeps.tasks import Task, TaskList
from sweeps.worker import WorkerReport, work

CONF_DIR = Path(__file__).parents[1] / "conf"
POLL_SECONDS = 1.0
STOP_SECONDS = 30
TTY = (signal.SIGINT, signal.SIGHUP)  # signals of a terminal to all processes that were started in it
MAX_IDLE = 3  # workers in a row that ended though runs were free and not one was tried
SUBMITIT_MINUTES = 60 * 24 * 365  # submitit kills local jobs after five minutes by default


class Job(Protocol):
    """A worker that was started, as submitit has it."""

    @property
    def paths(self) -> Any: ...
    def done(self) -> bool: ...
    def exception(self) -> BaseException | None: ...
    def result(self) -> WorkerReport: ...


# Starts a worker, given its name.
Start = Callable[[str], Job]


@dataclass
class Seat:
    """A worker's place in a launch: its job, when it was started, and how many attempts there were then."""

    name: str
    job: Job
    started: float
    num_attempts: int


@checked_dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalExecutor(Executor):
    """Workers on this machine. ``sweeps/conf/executor/local.yaml`` explains the keys."""

    cluster: Literal["debug", "local"]
    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    runs_per_gpu: RunsPerGpu = 1

    @property
    def speed_unknown(self) -> str:
        return "" if self.runs_per_gpu == 1 else "the speed of runs that share a GPU is not known"

    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse runs of several ranks, and runs that cannot share a GPU."""
        if (ranks := max(run.ranks for run in runs)) > 1:
            raise UsageError(f"ranks={ranks} needs executor=slurm: a local worker is a single process")
        check_gpu_sharing(self.runs_per_gpu, runs)

    def num_workers(self, runs: Sequence[RunConfig], machine: Machine = HERE) -> int:
        here = room(runs, resolve_runs_per_gpu(self.runs_per_gpu, runs, machine), machine)
        if here.workers == 0:
            raise UsageError(f"no run fits this machine: it {here.limit}")
        if self.workers is not None and self.workers > here.workers:
            raise UsageError(
                f"executor.workers={self.workers} is more than the {here.workers} that fit: this machine {here.limit}"
            )
        return 1 if self.cluster == "debug" else self.workers or here.workers

    def launch(self, request: Request, plan: Plan, names: Sequence[str], reports_dir: Path, console: Console) -> bool:
        """Do these runs, and return when all are over."""
        write_request(plan.runs_dir, request)
        plan.prepare_data()
        if missing := shortage(plan.configs(names)):
            console.print(missing, soft_wrap=True)
        self.complete(plan, names, console)
        return True

    def complete(self, plan: Plan, names: Sequence[str], console: Console, start: Start | None = None) -> None:
        """Do these runs of the plan. Return when each is over (``sweeps.tasks``).

        A worker that ends while runs are free is replaced.

        Args:
            start: None is the executor's own way.

        Raises:
            KeyboardInterrupt: the launch was interrupted or cancelled, and the workers released their runs.
            UsageError: no worker can run here, or the code snapshot was changed.
        """
        if not names:
            return
        after = {name: plan.runs[name].num_attempts for name in names}
        tasks = [Task(name, plan.cell_of[name].config, after[name]) for name in names]
        started, num_workers = time.perf_counter(), min(self.num_workers(plan.configs(names)), len(tasks))
        with (
            at_work(plan.runs_dir, plan.title, after) as launch_dir,
            Board(plan, console, is_live=self.cluster != "debug") as board,
            self._starting(tasks, launch_dir, board, console) as own_way,
        ):
            reports = staffed(tasks, launch_dir, num_workers, start or own_way, board.update, console)
        if any(report.done for report in reports):
            cores = min(num_cores(), tasks[0].config.threads * num_workers)
            console.print(summary(reports, time.perf_counter() - started, cores), soft_wrap=True)

    @contextmanager
    def _starting(self, tasks: Sequence[Task], launch_dir: Path, board: Board, console: Console) -> Iterator[Start]:
        """Yield a function that starts a worker; stop those that still run when the context is left."""
        runs_per_gpu = resolve_runs_per_gpu(self.runs_per_gpu, [task.config for task in tasks])
        worker = partial(work, tasks, launch_dir, minutes=self.minutes, runs_per_gpu=runs_per_gpu)
        if self.cluster == "debug":
            yield lambda name: _Here(worker(name=name, on_rows=lambda rows: board.update()))
            return
        jobs = list[submitit.Job[WorkerReport]]()

        def start(name: str) -> Job:
            submitter = self._submitter(tasks[0].config, new_logs(runs_dir_of(launch_dir), name))
            # submitit pickles ``work`` by its name, so the import path decides which code a worker runs.
            path = os.pathsep.join(filter(None, [str(freeze(runs_dir_of(launch_dir))), os.environ.get("PYTHONPATH")]))
            with environment_variables(**worker_environment(tasks[0].config), PYTHONPATH=path), ExitStack() as stack:
                # Processes started here ignore these, so that Ctrl-C in their terminal and its end reach the launcher
                # alone. It blocks them meanwhile, so that it does not miss them.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, TTY)
                stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
                for number in TTY:
                    stack.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
                jobs.append(submitter.submit(partial(worker, name=name, requested_at=time.time())))
            return jobs[-1]

        try:
            yield start
        finally:
            if not _stop(jobs):
                console.print("some workers are still running; they stop after their current step", style="yellow")

    def _submitter(self, run: RunConfig, folder: Path) -> submitit.AutoExecutor:
        """Return submitit's executor for a worker.

        Args:
            folder: the worker's own, since submitit names local jobs by their process number, and those are used again.
        """
        submitter = submitit.AutoExecutor(folder=folder / "%j", cluster="local")
        submitter.update_parameters(timeout_min=SUBMITIT_MINUTES)
        if run.device == "cuda":
            import torch

            submitter.update_parameters(gpus_per_node=torch.cuda.device_count())  # otherwise submitit hides all GPUs
        return submitter


@dataclass
class _Here:
    """A worker that worked in this process, with the code that it has imported."""

    report: WorkerReport
    paths: Any = None

    def done(self) -> bool:
        return True

    def exception(self) -> None:
        return None

    def result(self) -> WorkerReport:
        if self.report.signal is not None:
            raise KeyboardInterrupt
        return self.report


def staffed(
    tasks: Sequence[Task],
    launch_dir: Path,
    num_workers: int,
    start: Start,
    update: Callable[[], None],
    console: Console,
) -> list[WorkerReport]:
    """Keep ``num_workers`` workers as long as runs are free, until all tasks are over; return their reports.

    Args:
        update: refreshes the display.

    Raises:
        KeyboardInterrupt: the launch was cancelled.
        UsageError: the problem of a worker, or workers end before they try a run.
    """
    seats, reports, num_idle = list[Seat](), list[WorkerReport](), 0
    open_tasks = TaskList(tasks, runs_dir_of(launch_dir))
    while not (now := open_tasks.look()).is_over or seats:
        for seat in (ended := [seat for seat in seats if seat.job.done()]):
            seats.remove(seat)
            report = report_of(seat, console)
            reports.append(report)
            if report.was_cancelled:
                raise KeyboardInterrupt
            if report.problem:
                raise UsageError(report.problem)
            # A worker that ran out of time without a try waited for a slot.
            is_idle = now.free and now.num_attempts == seat.num_attempts and not report.was_out_of_time
            num_idle = num_idle + 1 if is_idle else 0
            if num_idle == MAX_IDLE:
                logs = runs_dir_of(launch_dir) / LOGS
                raise UsageError(f"workers end before they try a run; their logs are in {logs}")
        # All at first, and later those that ended: a worker that is just starting may take what is free.
        folders = [launch_dir / WORKERS / seat.name for seat in seats]
        is_starting = not all(folder.exists() for folder in folders)
        num_stopped = sum(_is_stopped(folder, open_tasks.watch) for folder in folders)
        most = 0 if is_starting else max(len(ended), 1) if reports else num_workers
        for _ in range(min(num_workers - len(seats) + num_stopped, len(now.free), most)):
            name = uuid.uuid4().hex[:12]
            seats.append(Seat(name, start(name), time.time(), now.num_attempts))
        update()
        if now.is_over and num_stopped == len(seats):
            break
        if not all(seat.job.done() for seat in seats) or now.held or now.unsure:
            time.sleep(POLL_SECONDS)
    return reports


def _is_stopped(worker: Path, watch: Watch) -> bool:
    """True if a worker with this folder has no heartbeat any more, though it has not ended."""
    return watch.sees(worker) == "dead" and worker.exists() and not is_released(worker)


def summary(reports: Sequence[WorkerReport], wall: float, cores: int) -> str:
    """Return a sentence on the time that runs took, the share of it that was work, and how busy the cores were."""
    done = sum(len(report.done) for report in reports)
    busy = sum(report.cpu_seconds for report in reports) / (cores * wall)
    working = sum(report.working_seconds for report in reports) / sum(report.seconds for report in reports)
    return (
        f"{done} run{'s' * (done != 1)} done in {duration(wall)}; {working:.0%} of the workers' wall time was training"
        f" or evaluation; {cores} core{'s were' if cores > 1 else ' was'} busy {busy:.0%} of it (CPU seconds / cores /"
        " wall)"
    )


def report_of(seat: Seat, console: Console) -> WorkerReport:
    """Return a worker's report. One that died is taken to have done no work."""
    if seat.job.exception() is None:
        return seat.job.result()
    console.print(f"a worker ended early; its log is {seat.job.paths.stderr}", style="red", soft_wrap=True)
    return WorkerReport(seconds=time.time() - seat.started)


def _stop(jobs: "Sequence[submitit.Job[Any]]") -> bool:
    """Interrupt local workers and wait for their end. Return False if some still run after STOP_SECONDS."""
    deadline = time.monotonic() + STOP_SECONDS
    while running := [job for job in jobs if not job.done()]:
        if time.monotonic() > deadline:
            return False
        for job in running:
            with contextlib.suppress(ProcessLookupError):
                # A local job's id is its process number, and that process forwards the signal. It is sent again and
                # again, since a worker that is just starting ignores it.
                os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(0.5)
    return True
