"""Workers on this machine: processes (``executor=local``), or this process itself (``executor=debug``)."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from submitit.helpers import environment_variables

from ablations.request import Request, write_request
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.lease import file_system_time
from sweeps.active_launches import at_work, runs_dir_of
from sweeps.executors.base import Executor, RunsPerGpu, check_gpu_sharing
from sweeps.freeze import freeze, worker_environment
from sweeps.machine.room import HERE, Machine, num_cores, resolve_runs_per_gpu, room, shortage
from sweeps.plan import Plan
from sweeps.status.board import Board, duration
from sweeps.worker import Task, WorkerReport, work

CONF_DIR = Path(__file__).parents[1] / "conf"
POLL_SECONDS = 1.0
STOP_SECONDS = 30
TTY = (signal.SIGINT, signal.SIGHUP)  # signals of a terminal to all processes that were started in it
MAX_IDLE = 3  # rounds of workers that tried no run
SUBMITIT_MINUTES = 60 * 24 * 365  # submitit kills local jobs after five minutes by default

# Starts workers for tasks of a launch, given its folder, and returns their reports when all have ended.
WorkRound = Callable[[Sequence[Task], Path], list[WorkerReport]]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
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

    def complete(self, plan: Plan, names: Sequence[str], console: Console, work_round: WorkRound | None = None) -> None:
        """Do these runs of the plan. Return when each is done, has failed once more, or lost two workers.

        Args:
            work_round: None is the executor's own way.

        Raises:
            KeyboardInterrupt: the launch was interrupted or cancelled, and the workers released their runs.
            UsageError: no worker can run here, or the code snapshot was changed.
        """
        tasks = [Task(name, plan.cell_of[name].config, plan.runs[name].num_tries) for name in names]
        started, num_idle = time.perf_counter(), 0
        reports: list[WorkerReport] = []
        with (
            at_work(plan.runs_dir, plan.title, {task.name: task.tries for task in tasks}) as launch_dir,
            Board(plan, console, is_live=self.cluster != "debug") as board,
        ):
            own_way = self._work_here if self.cluster == "debug" else self._work_in_processes
            work_round = work_round or partial(own_way, board.update, console)
            while still_open := [task for task in tasks if task.is_open(plan.runs_dir)]:
                if all(plan.runs[task.name].state(file_system_time) == "running" for task in still_open):
                    board.update()  # another launch does them all
                    time.sleep(POLL_SECONDS)
                    continue
                before = plan.num_attempts()
                ended = work_round(still_open, launch_dir)
                if any(report.was_cancelled for report in ended):
                    raise KeyboardInterrupt
                if problems := [report.problem for report in ended if report.problem]:
                    raise UsageError(problems[0])
                reports += ended
                # Once can be chance: another launch held the runs and has just released them. A worker that ran out
                # of time without a try waited for a slot.
                is_idle = plan.num_attempts() == before and not any(report.was_out_of_time for report in ended)
                num_idle = num_idle + 1 if is_idle else 0
                if num_idle == MAX_IDLE:
                    logs = plan.runs_dir / "workers"
                    raise UsageError(f"workers end before they try a run; their logs are in {logs}")
        if any(report.done for report in reports):
            num_workers = min(self.num_workers([task.config for task in tasks]), len(tasks))
            cores = min(num_cores(), tasks[0].config.threads * num_workers)
            console.print(summary(reports, time.perf_counter() - started, cores), soft_wrap=True)

    def _worker(self, tasks: Sequence[Task], launch_dir: Path) -> Callable[..., WorkerReport]:
        """Return the call of a worker for these tasks."""
        runs_per_gpu = resolve_runs_per_gpu(self.runs_per_gpu, [task.config for task in tasks])
        return partial(
            work, tasks, launch_dir, minutes=self.minutes, requested_at=time.time(), runs_per_gpu=runs_per_gpu
        )

    def _work_here(
        self, update: Callable[[], None], console: Console, tasks: Sequence[Task], launch_dir: Path
    ) -> list[WorkerReport]:
        """Work in this process, with the code that it has imported."""
        report = self._worker(tasks, launch_dir)(on_rows=lambda rows: update())
        update()
        if report.signal is not None:
            raise KeyboardInterrupt
        return [report]

    def _work_in_processes(
        self, update: Callable[[], None], console: Console, tasks: Sequence[Task], launch_dir: Path
    ) -> list[WorkerReport]:
        """Work in processes of this machine, at most one per task, which import the code snapshot.

        A worker does many runs, since submitit starts all its jobs at once.
        """
        runs, runs_dir, started = [task.config for task in tasks], runs_dir_of(launch_dir), time.time()
        # A folder of its own, since submitit names local jobs by their process number, and those are used again.
        folder = runs_dir / "workers" / uuid.uuid4().hex[:12] / "%j"
        submitter = submitit.AutoExecutor(folder=folder, cluster="local")
        submitter.update_parameters(timeout_min=SUBMITIT_MINUTES)
        if runs[0].device == "cuda":
            import torch

            submitter.update_parameters(gpus_per_node=torch.cuda.device_count())  # otherwise submitit hides all GPUs
        # submitit pickles ``work`` by its name, so the import path decides which code a worker runs.
        path = os.pathsep.join(filter(None, [str(freeze(runs_dir)), os.environ.get("PYTHONPATH")]))
        worker, jobs = self._worker(tasks, launch_dir), list[submitit.Job[WorkerReport]]()
        try:
            with environment_variables(**worker_environment(runs[0]), PYTHONPATH=path), ExitStack() as stack:
                # Processes started here ignore these, so that Ctrl-C in their terminal, and its end, reach the launcher
                # alone. They are blocked meanwhile, so that it does not miss them.
                stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, TTY))
                for number in TTY:
                    stack.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
                for _ in range(min(self.num_workers(runs), len(tasks))):
                    jobs.append(submitter.submit(worker))
            while not all(job.done() for job in jobs):
                update()
                time.sleep(POLL_SECONDS)
            reports = [report_of(job, time.time() - started, console) for job in jobs]
            update()
            return reports
        except BaseException:
            if not _stop(jobs):
                console.print("some workers are still running; they stop after their current step", style="yellow")
            raise


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


def report_of(job: "submitit.Job[WorkerReport]", wall: float, console: Console) -> WorkerReport:
    """Return a worker's report. One that died did no work for ``wall`` seconds, until the last worker ended, since no
    other took its place."""
    if job.exception() is None:
        return job.result()
    console.print(f"a worker ended early; its log is {job.paths.stderr}", style="red", soft_wrap=True)
    return WorkerReport(seconds=wall)


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
