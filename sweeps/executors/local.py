"""Workers on this machine: processes (``executor=local``), or this process itself (``executor=debug``)."""

import contextlib
import dataclasses
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from ablations.request import Request, write_request
from aimv2.config.run_config import CHECKED, RunConfig
from aimv2.errors import UsageError
from aimv2.runs.lease import file_system_time
from sweeps.active_launches import at_work
from sweeps.executors.base import RunsPerGpu, check_gpu_sharing
from sweeps.freeze import freeze, worker_environment
from sweeps.machine.room import HERE, Machine, num_cores, resolve_runs_per_gpu, room, shortage
from sweeps.plan import Plan
from sweeps.status.board import Board, duration
from sweeps.worker import Task, WorkerReport, work

CONF_DIR = Path(__file__).parents[1] / "conf"
POLL_SECONDS = 1.0
STOP_SECONDS = 30
MAX_IDLE = 3  # rounds of workers that tried no run
SUBMITIT_MINUTES = 60 * 24 * 365  # submitit kills local jobs after five minutes by default


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LocalExecutor:
    """Workers on this machine.

    Attributes:
        cluster: submitit's name of the executor: ``local``, or ``debug`` for one worker in this process.
        workers: number of workers; None is as many as fit the machine (cores, memory, GPUs).
        minutes: a worker's time; None is no limit. When it is nearly up, the worker saves a checkpoint and releases
            its run, and another worker starts if runs are left.
        runs_per_gpu: workers that share a GPU; ``auto`` is as many as the GPU's memory holds by prediction.
    """

    cluster: Literal["debug", "local"]
    workers: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    runs_per_gpu: RunsPerGpu = 1

    @property
    def device(self) -> None:
        """``device=auto`` means this machine's."""

    @property
    def speed_unknown(self) -> str:
        """Runs that share a GPU slow each other down by an unknown factor."""
        return "" if self.runs_per_gpu == 1 else "the speed of runs that share a GPU is not known"

    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse runs of several ranks, and runs that cannot share a GPU."""
        if (ranks := max(run.ranks for run in runs)) > 1:
            raise UsageError(f"ranks={ranks} needs executor=slurm: a local worker is a single process")
        check_gpu_sharing(self.runs_per_gpu, runs)

    def num_workers(self, runs: Sequence[RunConfig], machine: Machine = HERE) -> int:
        """Return the number of workers for these runs."""
        here = room(runs, resolve_runs_per_gpu(self.runs_per_gpu, runs, machine), machine)
        if here.workers == 0:
            raise UsageError(f"no run fits this machine: its {here.limit}")
        if self.workers is not None and self.workers > here.workers:
            raise UsageError(
                f"executor.workers={self.workers} is more than the {here.workers} that this machine's {here.limit}"
            )
        return 1 if self.cluster == "debug" else self.workers or here.workers

    def describe_workers(self, num_workers: int) -> str:
        """Return the workers in words."""
        return f"{num_workers} worker{'s' * (num_workers > 1)}"

    def test(self, runs: Sequence[RunConfig], runs_dir: Path) -> str:
        """Test nothing: this machine refuses runs in ``check`` and ``num_workers`` only."""
        return ""

    def launch(self, request: Request, plan: Plan, names: Sequence[str], reports_dir: Path, console: Console) -> bool:
        """Do these runs, and return when all are over."""
        write_request(plan.runs_dir, request)
        plan.prepare_data()
        if missing := shortage(plan.configs(list(names))):
            console.print(missing, soft_wrap=True)
        self.complete(plan, names, console)
        return True

    def complete(
        self,
        plan: Plan,
        names: Sequence[str],
        console: Console,
        work_round: "Callable[[Round], list[WorkerReport]] | None" = None,
    ) -> None:
        """Do these runs of the plan. Return when each is done, has failed once more, or lost two workers.

        Args:
            work_round: starts workers and returns their reports when all have ended; None is the executor's way.

        Raises:
            KeyboardInterrupt: the launch was interrupted or cancelled, and the workers released their runs.
            UsageError: no worker can run here, or the code snapshot was changed.
        """
        tasks = [Task(name, plan.cell_of[name].config, plan.runs[name].num_tries) for name in names]
        work_round = work_round or (_work_here if self.cluster == "debug" else _work_in_processes)
        started, num_idle = time.perf_counter(), 0
        reports: list[WorkerReport] = []
        with (
            at_work(plan.runs_dir, plan.title, {task.name: task.tries for task in tasks}) as launch_dir,
            Board(plan, console, is_live=self.cluster != "debug") as board,
        ):
            while still_open := [task for task in tasks if task.is_open(plan.runs_dir)]:
                if all(plan.runs[task.name].state(file_system_time) == "running" for task in still_open):
                    board.update()  # another launch does them all
                    time.sleep(POLL_SECONDS)
                    continue
                before = plan.num_attempts()
                ended = work_round(Round(self, still_open, plan.runs_dir, launch_dir, board.update, console))
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


@dataclasses.dataclass(frozen=True)
class Round:
    """Workers to start for the open tasks of a launch.

    Attributes:
        update: updates the display.
    """

    executor: LocalExecutor
    tasks: Sequence[Task]
    runs_dir: Path
    launch_dir: Path
    update: Callable[[], None]
    console: Console

    @property
    def runs(self) -> list[RunConfig]:
        return [task.config for task in self.tasks]

    @property
    def work_arguments(self) -> dict[str, Any]:
        """Arguments of ``sweeps.worker.work``."""
        return {
            "tasks": self.tasks,
            "runs_dir": self.runs_dir,
            "minutes": self.executor.minutes,
            "launch_dir": self.launch_dir,
            "requested_at": time.time(),
            "runs_per_gpu": resolve_runs_per_gpu(self.executor.runs_per_gpu, self.runs),
        }


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


def _work_here(round: Round) -> list[WorkerReport]:
    """Work in this process, with the code that it has imported."""
    report = work(**round.work_arguments, on_rows=lambda rows: round.update())
    round.update()
    if report.signal is not None:
        raise KeyboardInterrupt
    return _checked([report])


def _work_in_processes(round: Round) -> list[WorkerReport]:
    """Work in processes of this machine, which import the code snapshot."""
    jobs: list[submitit.Job[WorkerReport]] = []
    started = time.time()
    try:
        _start_processes(round, jobs)
        while not all(job.done() for job in jobs):
            round.update()
            time.sleep(POLL_SECONDS)
        reports = [report_of(job, time.time() - started, round.console) for job in jobs]
        round.update()
    except BaseException:
        if not _stop(jobs):
            round.console.print("some workers are still running; they stop after their current step", style="yellow")
        raise
    return _checked(reports)


def _checked(reports: list[WorkerReport]) -> list[WorkerReport]:
    """Return the reports of workers that can be followed by others."""
    if any(report.was_cancelled for report in reports):
        raise KeyboardInterrupt
    if problems := [report.problem for report in reports if report.problem]:
        raise UsageError(problems[0])
    return reports


def report_of(job: "submitit.Job[WorkerReport]", wall: float, console: Console) -> WorkerReport:
    """Return a worker's report.

    Args:
        wall: seconds from the request of the workers to the end of the last one. A worker that died reports no work in
            all that time, since no other took its place.
    """
    if job.exception() is None:
        return job.result()
    console.print(f"a worker ended early; its log is {job.paths.stderr}", style="red", soft_wrap=True)
    return WorkerReport(seconds=wall)


def _start_processes(round: Round, jobs: "list[submitit.Job[WorkerReport]]") -> None:
    """Start workers, at most one per task, and append each to ``jobs`` as it starts.

    A worker does many runs, since submitit starts all its jobs at once.
    """
    # A folder of its own, since submitit names local jobs by their process number, and those are used again.
    folder = round.runs_dir / "workers" / uuid.uuid4().hex[:12] / "%j"
    submitter = submitit.AutoExecutor(folder=folder, cluster="local")
    submitter.update_parameters(timeout_min=SUBMITIT_MINUTES)
    if round.runs[0].device == "cuda":
        import torch

        submitter.update_parameters(gpus_per_node=torch.cuda.device_count())  # otherwise submitit hides all GPUs
    # submitit pickles ``work`` by its name, so the import path decides which code a worker runs.
    path = os.pathsep.join(filter(None, [str(freeze(round.runs_dir)), os.environ.get("PYTHONPATH")]))
    arguments = round.work_arguments
    with _environment(worker_environment(round.runs[0]) | {"PYTHONPATH": path}), _without_interrupts():
        for _ in range(min(round.executor.num_workers(round.runs), len(round.tasks))):
            jobs.append(submitter.submit(work, **arguments))


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


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Have processes started here ignore SIGINT, so that Ctrl-C in their terminal reaches the launcher alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Set these variables for processes started here."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
