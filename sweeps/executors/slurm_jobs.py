"""The jobs of a launch on SLURM: an array of workers, and a finalizer job that resubmits lost runs and writes the
report."""

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from submitit import JobEnvironment
from submitit.helpers import Checkpointable, TorchDistributedEnvironment

from aimv2.base.errors import UsageError
from aimv2.base.files import share
from aimv2.base.interrupt import Interrupts
from aimv2.config.program import Program
from aimv2.memory.machine import rank_cores
from aimv2.run.programs import follow
from aimv2.sweeps.active_launches import LOGS, Jobs, cancelled, end, new_logs, skipped, write_jobs
from aimv2.sweeps.executors import slurm_commands
from aimv2.sweeps.finish import finish
from aimv2.sweeps.freeze import freeze
from aimv2.sweeps.machine.room import HERE, Machine, resolve_runs_per_gpu
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.tasks import OpenTasks, Task, Work, read_work
from aimv2.sweeps.worker import Worker, WorkerReport, work_in_processes

if TYPE_CHECKING:
    from aimv2.sweeps.executors.slurm import SlurmExecutor

POLL_SECONDS = 5.0


@dataclass(frozen=True)
class ArrayWorker(Checkpointable):
    """The job of an array element, or of all processes of a run with several ranks. A requeued job starts over, and its
    runs resume from their checkpoints."""

    launch_dir: Path
    start: int  # as in Work.of_worker
    executor: "SlurmExecutor"

    def __call__(self) -> WorkerReport:
        if not self.launch_dir.exists():  # requeued after all runs were done
            return WorkerReport()
        work = read_work(self.launch_dir).of_worker(self.start)
        report = self._work(work) if work.configs[0].ranks == 1 else self._work_together(work)
        end_job(report)
        return report

    def _work(self, work: Work) -> WorkerReport:
        num_processes = self.num_processes(work.configs)
        if num_processes > 1:
            cores = max(rank_cores(work.configs[0]) // num_processes, 1)
            return work_in_processes(num_processes, self.launch_dir, self.start, _log(), cores)
        return Worker(work, self.launch_dir, runs_per_gpu=None, log=_log()).work()

    def num_processes(self, runs: Sequence[Program], machine: Machine = HERE) -> int:
        """Return the number of processes that do these runs on this node's GPU."""
        requested = resolve_runs_per_gpu(self.executor.runs_per_gpu, runs, machine)
        return min(requested, self.executor.max_runs(runs), len(runs))

    def _work_together(self, work: Work) -> WorkerReport:
        """Work as one of the job's ranks: rank 0 is the worker, and the others follow it."""
        from aimv2.training.distributed import dismiss

        # ``aimv2.training.distributed.place`` chooses the GPU: it knows whether SLURM shows a rank its own GPU only.
        if TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True).rank:
            with contextlib.suppress(KeyboardInterrupt), Interrupts().listening() as interrupts:
                follow(work.configs[0], interrupts)
            return WorkerReport()
        try:
            return self._work(work)
        finally:
            dismiss()


def _log() -> str:
    """Return the path of this job's log, which submitit writes; empty if this is no job."""
    try:
        return str(JobEnvironment().paths.stderr.resolve())
    except RuntimeError:
        return ""


def end_job(report: WorkerReport) -> None:
    """Fail the job if its worker could not work, or have it requeued if its time was up.

    Raises:
        UsageError: the worker's problem.
    """
    if report.problem:
        raise UsageError(report.problem)
    if report.signal == signal.SIGUSR2:
        # The run is released with a checkpoint. Raised again, now that submitit listens, the signal makes it request a
        # requeue. SIGTERM must not: SLURM requeues jobs that it preempts, and otherwise a user's scancel is meant.
        signal.raise_signal(signal.SIGUSR2)


@dataclass(frozen=True)
class FinalizerJob(Checkpointable):
    """The job that starts when no worker of the array is left, however the workers ended."""

    launch_dir: Path
    plan: Plan  # whose reports it writes
    executor: "SlurmExecutor"  # with which lost runs are submitted again
    reports_dir: Path | None  # where the reports are written; None for runs of no study
    num_attempts: int = 0  # at the launch's runs when the array was submitted (sweeps.tasks.OpenTasks)
    poll_seconds: float = POLL_SECONDS  # between two checks of runs that others hold

    def __call__(self) -> None:
        """Wait for runs that others hold; submit lost runs again, or else write the report."""
        if not self.launch_dir.exists():  # requeued after all was done
            return
        plan, console = self.plan, Console(highlight=False)
        share(plan.runs_dir)
        now = self._wait(work := read_work(self.launch_dir)).without(left_out := skipped(self.launch_dir))
        for run, reason in left_out.items():
            console.print(f"{run} is skipped: {reason}", soft_wrap=True, markup=False)
        if cancelled(self.launch_dir) is not None:
            console.print("cancelled: the report is not updated")
            end(self.launch_dir)
            return
        if now.free:
            lost = f"{len(now.free)} run{'s' * (len(now.free) > 1)} lost their workers"
            try:
                if now.num_attempts == self.num_attempts:
                    raise UsageError("workers end before they try a run; their logs are beside this job's log")
                jobs = submit_workers(self, now.free)
            except UsageError as error:
                console.print(f"{lost} and cannot be submitted again: {error}", soft_wrap=True)
            else:
                console.print(f"{lost} and are submitted again, as {jobs.described}")
                return
        finish(plan, work, self.reports_dir, console)
        end(self.launch_dir)

    def _wait(self, work: Work) -> OpenTasks:
        """Wait for runs that are held by another launch, by a worker that outlived its node, or by a dead worker whose
        lease has not expired."""
        started, task_list = time.monotonic(), work.task_list(self.plan.runs_dir)
        while (now := task_list.open_tasks()).held or now.unsure:
            if time.monotonic() - started > 60 * self.executor.minutes - self.executor.signal_seconds:
                signal.raise_signal(signal.SIGUSR2)  # SLURM signals the steps of a job, and this job has none
            time.sleep(self.poll_seconds)
        return now


def submit_workers(finalizer: FinalizerJob, tasks: Sequence[Task]) -> Jobs:
    """Submit an array of workers per number of ranks, and the finalizer job, which waits for them.

    Raises:
        UsageError: SLURM refuses one of them; those before it are withdrawn.
    """
    launch_dir, executor, runs_dir = finalizer.launch_dir, finalizer.executor, finalizer.plan.runs_dir
    work = read_work(launch_dir)
    num_attempts = work.task_list(runs_dir).open_tasks().num_attempts
    folder = runs_dir / LOGS / launch_dir.name
    template = partial(executor.template, folder=folder, name=launch_dir.name, code=freeze(runs_dir))
    jobs = Jobs({}, "", slurm_commands.cluster_setting("ClusterName"))
    try:
        for ranks in sorted({task.config.ranks for task in tasks}):
            group = [task for task in tasks if task.config.ranks == ranks]
            workers = _array_workers(launch_dir, work, group, executor)
            array = slurm_commands.submit(template(group[0].config), workers)
            jobs = replace(jobs, arrays=jobs.arrays | {array: len(workers)})
            write_jobs(launch_dir, jobs)
        after = template(finalizer.plan.cells[0].config, after=list(jobs.arrays))
        last = slurm_commands.submit(after, [replace(finalizer, num_attempts=num_attempts)])
        jobs = replace(jobs, finalizer=last)
    except UsageError:
        if jobs.arrays:
            slurm_commands.command("scancel", *jobs.arrays)  # without a finalizer job, lost runs would stay lost
        raise
    write_jobs(launch_dir, jobs)
    new_logs(runs_dir, launch_dir.name)
    return jobs


def _array_workers(launch_dir: Path, work: Work, tasks: Sequence[Task], executor: "SlurmExecutor") -> list[ArrayWorker]:
    """Return workers that begin with these tasks of a launch's work, at equal distances."""
    number = executor.num_elements([task.config for task in tasks])
    if number > 1 and (size := slurm_commands.cluster_setting("MaxArraySize")).isdecimal():
        number = min(number, max(int(size) - 1, 1))  # the largest index is below it
    place = {task.name: place for place, task in enumerate(work.tasks)}
    starts = [place.get(tasks[len(tasks) * one // number].name, 0) for one in range(number)]
    return [ArrayWorker(launch_dir, start, executor) for start in starts]
