"""A launch on SLURM: an array of workers, and behind it a job that sees to what they leave and writes the report."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from submitit.helpers import DelayedSubmission

from ablations.catalogue import STUDIES
from ablations.launched import Launched, load_launched, save_launched
from aimv2.errors import UsageError
from aimv2.lease import file_system_time
from sweeps import slurm
from sweeps.board import print_failures
from sweeps.freeze import freeze
from sweeps.launches import Jobs, cancelled, end, launches, new_launch, tries_at_launch, write_jobs
from sweeps.pack import pack
from sweeps.plan import Plan
from sweeps.slurm import SlurmConfig
from sweeps.worker import Task, WorkerReport, work

LAUNCHED = "launched.json"
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Element:
    """A worker that is an element of an array, or all of it.

    Attributes:
        launch: the launch's folder.
        start: the run that it begins with, by its place in the launch; after that it takes what is open.
        at_once: runs on its GPU at once, at most.
    """

    launch: Path
    start: int
    at_once: int = 1

    def __call__(self) -> WorkerReport:
        if not self.launch.exists():  # requeued, and others have done all there was
            return WorkerReport()
        tasks = _tasks(self.launch)
        runs_dir = _runs_dir(self.launch)
        do = work if self.at_once == 1 else partial(pack, at_once=self.at_once)
        report = do(tasks[self.start :] + tasks[: self.start], runs_dir, launch=self.launch, takes_seats=False)
        if report.problem:
            raise UsageError(report.problem)
        if report.signal == signal.SIGUSR2:
            # The run's checkpoint is kept and the run handed back. Said again, now that submitit listens, the signal
            # has it ask for a requeue. After a SIGTERM it must not: SLURM requeues what it preempts, and somebody
            # else's scancel is meant.
            signal.raise_signal(signal.SIGUSR2)
        return report

    def checkpoint(self) -> DelayedSubmission:
        """What the requeued job is to do: the same, for runs know how far they have come."""
        return DelayedSubmission(self)


@dataclass(frozen=True)
class Settling:
    """The job behind an array, which starts when no worker of it is left, however they ended.

    Attributes:
        launch: the launch's folder.
        config: how to submit again.
        reports_dir: where the report is to be.
        num_attempts: tries at the launch's runs, when the array was submitted.
    """

    launch: Path
    config: SlurmConfig
    reports_dir: Path
    num_attempts: int

    def __call__(self) -> None:
        from analysis.report import build

        if not self.launch.exists():  # requeued when all was done
            return
        console = Console(highlight=False)
        launched, tasks = _launched(self.launch), _tasks(self.launch)
        plan = Plan(launched.folder, launched.cells, _runs_dir(self.launch))
        # Held by another launch, or by a worker that outlived its node, or not given up yet after its holder's death.
        while any(plan.runs[task.name].state(file_system_time) == "running" for task in tasks):
            time.sleep(POLL_SECONDS)
        left = [task for task in tasks if task.is_open(plan.runs_dir)]
        if left and cancelled(self.launch) is None:
            if plan.num_attempts() > self.num_attempts:
                jobs = submit(self.launch, left, self.config, self.reports_dir, plan)
                console.print(f"{len(left)} runs lost their workers and are submitted again, as array {jobs.array}")
                return
            console.print("workers end before they try a run; their logs lie beside this one")
        print_failures(console, plan, {task.name for task in tasks})
        console.print(f"report: {build(launched, plan.runs_dir, self.reports_dir)}", soft_wrap=True)
        end(self.launch)

    def checkpoint(self) -> DelayedSubmission:
        """The same again: nothing is lost by beginning anew."""
        return DelayedSubmission(self)


def launch_array(
    launched: Launched, plan: Plan, names: Sequence[str], config: SlurmConfig, reports_dir: Path, console: Console
) -> None:
    """Submit workers for these runs, and the job behind them, and return at once.

    Runs that are in the queue already are left to the launch that wants them.

    Raises:
        UsageError: SLURM refuses; nothing is left behind.
    """
    queued = [launching for launching in launches(plan.runs_dir) if slurm.queue(launching.folder.name)]
    for launching in queued:
        if shared := len(launching.runs.intersection(names)):
            console.print(f"{shared} runs are in the queue already, under {launching.folder.name}", soft_wrap=True)
    wanted = frozenset().union(*(launching.runs for launching in queued))
    tasks = [Task(name, plan.cell_of[name].config, plan.runs[name].num_tries) for name in names if name not in wanted]
    if not tasks:
        return
    launch = new_launch(plan.runs_dir, plan.title, {task.name: task.tries for task in tasks}).resolve()
    try:
        save_launched(launch / LAUNCHED, launched)
        jobs = submit(launch, tasks, config, reports_dir.resolve(), plan)
    except BaseException:
        end(launch)
        raise
    console.print(
        f"submitted: {jobs.elements} worker{'s' * (jobs.elements != 1)} as array {jobs.array}, then job {jobs.settling}"
        f" writes the report; `python sweeps/manage.py status` shows where they are",
        soft_wrap=True,
    )


def submit(launch: Path, tasks: Sequence[Task], config: SlurmConfig, reports_dir: Path, plan: Plan) -> Jobs:
    """Submit an array of workers for these tasks, and the job behind it.

    Raises:
        UsageError: SLURM refuses it.
    """
    runs_dir, order = _runs_dir(launch), list(tries_at_launch(launch))
    folder, code = runs_dir / "workers" / launch.name, freeze(runs_dir)
    run = tasks[0].config
    array = slurm.executor(config, run, folder=folder, name=launch.name, code=code)
    slurm.check(array)
    runs = [task.config for task in tasks]
    num_workers, at_once = min(config.num_workers(runs), len(tasks)), config.runs_per_gpu(runs)
    if num_workers > 1:
        num_workers = min(num_workers, slurm.max_array_size() or num_workers)
    starts = [order.index(tasks[len(tasks) * number // num_workers].name) for number in range(num_workers)]
    num_attempts = plan.num_attempts()
    array_id = slurm.submit(array, [Element(launch, start, at_once) for start in starts])
    write_jobs(launch, Jobs(array_id, num_workers, ""))
    behind = slurm.executor(config, run, folder=folder, name=launch.name, code=code, after=array_id)
    try:
        settling = slurm.submit(behind, [Settling(launch, config, reports_dir, num_attempts)])
    except UsageError:
        slurm.command("scancel", array_id)  # without it nobody would see to what is left
        raise
    jobs = Jobs(array_id, num_workers, settling)
    write_jobs(launch, jobs)
    return jobs


def _runs_dir(launch: Path) -> Path:
    return launch.parents[1]


def _launched(launch: Path) -> Launched:
    return load_launched(launch / LAUNCHED, STUDIES)


def _tasks(launch: Path) -> list[Task]:
    config_of = {cell.name: cell.config for cell in _launched(launch).cells}
    return [Task(name, config_of[name], tries) for name, tries in tries_at_launch(launch).items()]
