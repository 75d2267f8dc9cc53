"""A launch on SLURM: an array of workers, and behind it a job that sees to what they leave and writes the report."""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from ablations.catalogue import STUDIES
from ablations.request import Request, load_request, read_request, save_request
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.files import share
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import file_system_time
from sweeps.active_launches import (
    ActiveLaunch,
    Jobs,
    active_launches,
    cancelled,
    end,
    new_launch,
    tries_at_launch,
    write_jobs,
)
from sweeps.executors import slurm
from sweeps.executors.drive import prepare_data
from sweeps.executors.pack import pack
from sweeps.executors.slurm import SlurmConfig
from sweeps.freeze import freeze
from sweeps.plan import Plan
from sweeps.status.board import print_failures
from sweeps.worker import Task, WorkerReport, work

LAUNCHED = "launched.json"
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Element:
    """A worker that is an element of an array, or all of it.

    Attributes:
        launch: the launch's folder.
        start: the run that it begins with, by its place in the launch. After that it takes what is open; with several
            ranks it does this one and no other.
        at_once: runs on its GPU at once, at most.
    """

    launch: Path
    start: int
    at_once: int = 1

    def __call__(self) -> WorkerReport:
        if not self.launch.exists():  # requeued, and others have done all there was
            return WorkerReport()
        tasks = _tasks(self.launch)
        own, *others = tasks[self.start :] + tasks[: self.start]
        if own.config.ranks > 1:
            report = self._work_together(own)
        else:
            report = self._work([own, *(task for task in others if task.config.ranks == 1)])
        if report.problem:
            raise UsageError(report.problem)
        if report.signal == signal.SIGUSR2:
            # The run's checkpoint is kept and the run handed back. Said again, now that submitit listens, the signal
            # has it ask for a requeue. After a SIGTERM it must not: SLURM requeues what it preempts, and somebody
            # else's scancel is meant.
            signal.raise_signal(signal.SIGUSR2)
        return report

    def _work(self, tasks: list[Task]) -> WorkerReport:
        do = work if self.at_once == 1 else partial(pack, at_once=self.at_once)
        return do(tasks, _runs_dir(self.launch), launch=self.launch, takes_seats=False)

    def _work_together(self, task: Task) -> WorkerReport:
        """As one of the job's ranks: the first is the worker, and the others follow it."""
        from aimv2.execute import follow
        from aimv2.training.distributed import dismiss

        # The GPU is left to ``aimv2.training.distributed.place``, which knows whether SLURM shows a rank only its own.
        if TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True).rank:
            with contextlib.suppress(KeyboardInterrupt), Interrupts().listening() as interrupts:
                follow(task.config, interrupts)
            return WorkerReport()
        try:
            return self._work([task])
        finally:
            dismiss()

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
        share(_runs_dir(self.launch))
        console, started = Console(highlight=False), time.monotonic()
        request, tasks = _request(self.launch), _tasks(self.launch)
        plan = Plan(request.folder, request.cells, _runs_dir(self.launch))
        # Held by another launch, or by a worker that outlived its node, or not given up yet after its holder's death.
        while any(plan.runs[task.name].state(file_system_time) == "running" for task in tasks):
            if time.monotonic() - started > 60 * self.config.minutes - self.config.signal_seconds:
                signal.raise_signal(signal.SIGUSR2)  # SLURM tells the steps of a job, and this one has none
            time.sleep(POLL_SECONDS)
        if cancelled(self.launch) is not None:
            console.print("cancelled: the report stays as it is")
            end(self.launch)
            return
        left = [task for task in tasks if task.is_open(plan.runs_dir)]
        if left and self._submitted_again(left, plan, console):
            return
        print_failures(console, plan, {task.name for task in tasks})
        latest = read_request(plan.runs_dir, request.folder, STUDIES)  # which may have more arms than this one
        console.print(f"report: {build(latest, plan.runs_dir, self.reports_dir)}", soft_wrap=True)
        end(self.launch)

    def _submitted_again(self, left: list[Task], plan: Plan, console: Console) -> bool:
        """Submit what lost its worker, if that is of any use; gives whether it was."""
        if plan.num_attempts() == self.num_attempts:
            console.print("workers end before they try a run; their logs lie beside this one")
            return False
        try:
            jobs = submit(self.launch, left, self.config, self.reports_dir, plan)
        except UsageError as error:
            console.print(f"{len(left)} runs lost their workers and cannot be submitted again: {error}", soft_wrap=True)
            return False
        console.print(f"{len(left)} runs lost their workers and are submitted again, as {jobs.described}")
        return True

    def checkpoint(self) -> DelayedSubmission:
        """The same again: nothing is lost by beginning anew."""
        return DelayedSubmission(self)


def launch_array(
    request: Request, plan: Plan, names: Sequence[str], config: SlurmConfig, reports_dir: Path, console: Console
) -> None:
    """Submit workers for these runs, and the job behind them, and return at once.

    Runs that another launch has in the queue are left to its workers; the report waits for those too.

    Raises:
        UsageError: SLURM refuses; nothing is left behind.
    """
    check_array(config, [plan.cell_of[name].config for name in names], plan.runs_dir)
    prepare_data(plan)
    end_abandoned(plan.runs_dir)
    tasks = [Task(name, plan.cell_of[name].config, plan.runs[name].num_tries) for name in names]
    elsewhere = _elsewhere(request, tasks, plan.runs_dir)
    for said in elsewhere.described:
        console.print(f"{said}; to change how, cancel that first", soft_wrap=True)
    own = [task for task in tasks if task.name not in elsewhere.runs]
    if not own and elsewhere.is_reported:
        return
    launch = new_launch(plan.runs_dir, plan.title, {task.name: task.tries for task in tasks}).resolve()
    try:
        save_request(launch / LAUNCHED, request)
        jobs = submit(launch, own, config, reports_dir.resolve(), plan, elsewhere.arrays)
    except BaseException:
        end(launch)
        with contextlib.suppress(OSError):
            (plan.runs_dir / "workers" / launch.name).rmdir()  # unless something was submitted
        raise
    where = "" if plan.runs_dir == Path("runs") else f" runs_dir={plan.runs_dir}"
    if sum(jobs.arrays.values()) < min(config.num_workers([task.config for task in own]), len(own)):
        console.print("an array of this cluster has no room for a worker a run (MaxArraySize): they do several each")
    console.print(
        f"submitted: {jobs.described}, then job {jobs.settling}, which writes the report; `python sweeps/manage.py"
        f" status{where}` shows where they are, and `cancel` ends them",
        soft_wrap=True,
    )


@dataclass
class _Elsewhere:
    """What other launches have in the queue.

    Attributes:
        runs: that their workers will do.
        arrays: of these workers.
        described: a sentence a launch.
        is_reported: one of them will write the same report.
    """

    runs: set[str] = field(default_factory=set)
    arrays: list[str] = field(default_factory=list)
    described: list[str] = field(default_factory=list)
    is_reported: bool = False


def _elsewhere(request: Request, tasks: Sequence[Task], runs_dir: Path) -> _Elsewhere:
    found = _Elsewhere()
    for active in active_launches(runs_dir):
        if active.jobs is None:
            continue
        queued = {job.array for job in slurm.queue(active.folder.name) or []}
        arrays = [array for array in active.jobs.arrays if array in queued]
        shared = _wanted(active, tasks, runs_dir) if arrays else frozenset()
        if shared:
            are = "run is" if len(shared) == 1 else "runs are"
            found.described.append(f"{len(shared)} {are} in the queue already, of {active.jobs.described}")
            found.runs |= shared
            found.arrays += arrays
            found.is_reported |= active.study == request.folder and _request(active.folder).cells == request.cells
    return found


def _wanted(active: ActiveLaunch, tasks: Sequence[Task], runs_dir: Path) -> frozenset[str]:
    """The runs among these that a launch is still to do."""
    if cancelled(active.folder) is not None:
        return frozenset()
    tries = tries_at_launch(active.folder)
    shared = (replace(task, tries=tries[task.name]) for task in tasks if task.name in tries)
    return frozenset(task.name for task in shared if task.is_open(runs_dir))


def withdraw(active: ActiveLaunch) -> str:
    """Take a cancelled launch's elements out of the queue, and the job behind them where none is at work; gives what
    stays there and why, or nothing."""
    jobs, name = active.jobs, active.folder.name
    if jobs is None:
        return ""
    found = slurm.queue(name)
    if found is None:
        return f"{jobs.described}: SLURM does not answer; cancel again when it does"
    try:
        elements = [job for job in found if job.array in jobs.arrays]
        if pending := {job.array for job in elements if job.state == "PENDING"}:
            slurm.command("scancel", "--state=PENDING", *sorted(pending))
        if jobs.settling and all(job.state == "PENDING" for job in elements):
            slurm.command("scancel", jobs.settling)
            end(active.folder)
    except UsageError as error:  # another user's; when they start they find nothing to do
        return f"{jobs.described}: {error}"
    return ""


def end_abandoned(runs_dir: Path) -> None:
    """End one's own launches of which no job is left in the queue, as after an scancel of all."""
    for active in active_launches(runs_dir):
        jobs = active.jobs
        if jobs is not None and jobs.settling and slurm.queue_of(active.folder, jobs.cluster) == []:
            end(active.folder)


def submit(
    launch: Path,
    tasks: Sequence[Task],
    config: SlurmConfig,
    reports_dir: Path,
    plan: Plan,
    others: Sequence[str] = (),
) -> Jobs:
    """Submit workers for these tasks, an array for those of as many ranks, and the job behind them.

    Args:
        others: arrays of other launches that it is to wait for too.

    Raises:
        UsageError: SLURM refuses one; then none is left.
    """
    runs_dir = _runs_dir(launch)
    folder, code = runs_dir / "workers" / launch.name, freeze(runs_dir)
    num_attempts = plan.num_attempts()
    made = partial(slurm.executor, config, folder=folder, name=launch.name, code=code)
    jobs = Jobs({}, "", slurm.cluster_name())
    try:
        for run, group in _groups(tasks):
            elements = _elements(launch, group, config)
            submitted = slurm.submit(made(run), elements)
            jobs = replace(jobs, arrays=jobs.arrays | {submitted: len(elements)})
            write_jobs(launch, jobs)
        behind = made(plan.cells[0].config, after=[*jobs.arrays, *others])
        jobs = replace(jobs, settling=slurm.submit(behind, [Settling(launch, config, reports_dir, num_attempts)]))
    except UsageError:
        if jobs.arrays:
            slurm.command("scancel", *jobs.arrays)  # nobody would see to what they leave
        raise
    write_jobs(launch, jobs)
    return jobs


def check_array(config: SlurmConfig, runs: Sequence[RunConfig], runs_dir: Path) -> None:
    """Ask SLURM whether it would take workers for these runs.

    Raises:
        UsageError: it would not.
    """
    for run in {run.ranks: run for run in runs}.values():
        slurm.check(slurm.executor(config, run, folder=runs_dir / "workers", name="test-only", code=runs_dir / "code"))


def _groups(tasks: Sequence[Task]) -> Iterator[tuple[RunConfig, list[Task]]]:
    """Tasks that need jobs of one kind, and a run that shows which."""
    for ranks in sorted({task.config.ranks for task in tasks}):
        group = [task for task in tasks if task.config.ranks == ranks]
        yield group[0].config, group


def _elements(launch: Path, tasks: Sequence[Task], config: SlurmConfig) -> list[Element]:
    """Workers that begin with these tasks, at equal distances."""
    runs = [task.config for task in tasks]
    number = min(config.num_workers(runs), len(tasks))
    if number > 1:
        number = min(number, slurm.max_array_size() or number)
    place = {name: place for place, name in enumerate(tries_at_launch(launch))}
    starts = [place[tasks[len(tasks) * one // number].name] for one in range(number)]
    return [Element(launch, start, config.runs_per_gpu(runs)) for start in starts]


def _runs_dir(launch: Path) -> Path:
    return launch.parents[1]


def _request(launch: Path) -> Request:
    return load_request(launch / LAUNCHED, STUDIES)


def _tasks(launch: Path) -> list[Task]:
    config_of = {cell.name: cell.config for cell in _request(launch).cells}
    return [Task(name, config_of[name], tries) for name, tries in tries_at_launch(launch).items()]
