"""``executor=slurm``: workers as elements of a job array, and a finalizer job that resubmits lost runs and writes the
report."""

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from submitit import JobEnvironment
from submitit.helpers import Checkpointable, TorchDistributedEnvironment

from aimv2.ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.base.files import share
from aimv2.base.interrupt import Interrupts
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.run.programs import follow
from aimv2.sweeps.active_launches import (
    LOGS,
    ActiveLaunch,
    Jobs,
    Queued,
    cancelled,
    end,
    new_launch,
    skipped,
    write_jobs,
)
from aimv2.sweeps.board import Board
from aimv2.sweeps.executors import slurm_commands
from aimv2.sweeps.executors.base import Executor, finish
from aimv2.sweeps.freeze import FOLDER as CODE
from aimv2.sweeps.freeze import freeze, worker_environment
from aimv2.sweeps.plan import OpenTasks, Plan, Task, Work, read_work, write_work
from aimv2.sweeps.worker import Worker, WorkerReport

POLL_SECONDS = 5.0
GPU_CORES = 7  # for loader processes of a GPU; with the training process 8, of which most nodes have as many per GPU
MAX_REQUEUES = 10**6  # submitit counts time limits reached; a run that makes progress may continue for ever
PLAIN_KEYS = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "gpus_per_node", "mem")
OWN_KEYS = frozenset(key.replace("_", "-") for key in PLAIN_KEYS) | {
    *("array", "cpus-per-task", "dependency", "error", "job-name", "nodes", "ntasks", "ntasks-per-node"),
    *("open-mode", "output", "requeue", "signal", "time"),
}
RESOURCES = re.compile("gpu|mem|cpu|core|task|exclusive")  # in a key's name; the finalizer job needs one core only
KEY = re.compile(r"[a-z][a-z0-9-]*(=[^\n]*)?")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SlurmExecutor(Executor):
    """Workers as elements of a job array. A launch on a login node submits them and returns.

    What is None is left to the cluster.

    Attributes:
        workers: elements of the array; None is one per run. Fewer elements do several runs each.
        nodes: of a run of several ranks, spread evenly over them; such runs have a job each.
        minutes: a job's limit; a longer run is requeued, and resumes from its checkpoint.
        signal_seconds: time before that limit: enough for a step and a checkpoint.
        array_parallelism: elements that run at once.
        partition, account, qos, constraint, nodelist, exclude, gres, gpus_per_node, mem: as in ``sbatch``. With
            gres=shard:1 workers share a GPU, where the cluster has shards.
        cpus_per_task: cores of a rank; None is one per thread and loader process, and as many more as a GPU's loader
            takes with ``loader.num_workers=auto``.
        more: other keys of ``sbatch`` by their long names, such as hold or reservation=ablations.
        setup: lines of shell before Python starts, such as module load cuda.
    """

    workers: int | None = Field(default=None, gt=0)
    nodes: int = Field(default=1, gt=0)
    minutes: int = Field(default=240, gt=0)
    signal_seconds: int = Field(default=90, gt=0)
    array_parallelism: int = Field(default=256, gt=0)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    gres: str | None = None
    gpus_per_node: int | None = Field(default=None, gt=0)
    mem: str | int | None = None
    cpus_per_task: int | None = Field(default=None, gt=0)
    more: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.signal_seconds >= 60 * self.minutes:
            raise ValueError(
                f"signal_seconds={self.signal_seconds} leaves nothing of minutes={self.minutes}: workers would be"
                " interrupted as they start"
            )
        for key in self.more:
            if not KEY.fullmatch(key) or key.partition("=")[0] in OWN_KEYS:
                raise ValueError(
                    f"more has {key!r}: it takes long names without leading dashes, such as hold or reservation=x, that"
                    " are not set by the launch and have no key of their own"
                )

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        """The device of the requested nodes."""
        requested = " ".join([self.gres or "", *self.more])
        return "cuda" if self.gpus_per_node is not None or "gpu" in requested or "shard" in requested else "cpu"

    def check(self, runs: Sequence[Program]) -> None:
        ranks = max(run.ranks for run in runs)  # untrained encoders have one
        if ranks % self.nodes:
            raise UsageError(f"ranks={ranks} cannot be spread evenly over executor.nodes={self.nodes}")
        if ranks > 1 and self.workers is not None:
            raise UsageError(f"executor.workers={self.workers} and ranks={ranks}: such runs need one job each")

    def num_workers(self, runs: Sequence[Program]) -> int:
        return min(self.workers or len(runs), len(runs))

    def test(self, runs: Sequence[Program], runs_dir: Path) -> str:
        if shutil.which("sbatch") is None:
            return "whether SLURM accepts this was not tested: there is no sbatch on this machine"
        self._test_arrays(runs, runs_dir)
        return ""

    def launch(self, plan: Plan, work: Work, reports_dir: Path | None, board: Board) -> bool:
        """Submit workers for this work and the finalizer job, and return at once."""
        self._test_arrays(work.configs, plan.runs_dir)
        plan.prepare_data()
        launch_dir = new_launch(plan.runs_dir, plan.title, work.runs).resolve()
        try:
            write_work(launch_dir, work)
            absolute = replace(plan, runs_dir=plan.runs_dir.resolve())
            reports_dir = None if reports_dir is None else reports_dir.resolve()
            jobs = submit_workers(FinalizerJob(launch_dir, absolute, self, reports_dir), work.tasks)
        except BaseException:
            end(launch_dir)
            with contextlib.suppress(OSError):
                (plan.runs_dir / LOGS / launch_dir.name).rmdir()  # unless something was submitted
            raise
        last = "submits lost runs again" if reports_dir is None else "submits lost runs again and writes the report"
        board.console.print(
            f"submitted: {jobs.described}, then finalizer job {jobs.finalizer}, which {last}", soft_wrap=True
        )
        for request in plan.requests:
            write_request(plan.runs_dir, request)
        return False

    def _test_arrays(self, runs: Sequence[Program], runs_dir: Path) -> None:
        template = partial(self.template, folder=runs_dir / LOGS, name="test-only", code=runs_dir / CODE)
        for run in {run.ranks: run for run in runs}.values():
            slurm_commands.check_accepted(template(run))

    @staticmethod
    def queue(launch: ActiveLaunch) -> list[Queued] | None:
        if jobs := slurm_commands.queue(launch.folder.name):
            return jobs
        # An empty queue proves nothing about jobs of another cluster, or of another user, which SLURM may hide.
        with contextlib.suppress(FileNotFoundError, UsageError):
            is_here = launch.jobs is not None and slurm_commands.cluster_setting("ClusterName") == launch.jobs.cluster
            return jobs if is_here and launch.folder.stat().st_uid == os.getuid() else None
        return None

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        jobs, queued = launch.jobs, slurm_commands.queue(launch.folder.name)
        assert jobs is not None, "it is of this executor"
        if queued is None:
            return f"{jobs.described}: SLURM does not answer; cancel again when it does"
        try:
            elements = [job for job in queued if job.array in jobs.arrays]
            if pending := {job.array for job in elements if job.state == "PENDING"}:
                slurm_commands.command("scancel", "--state=PENDING", *sorted(pending))
            if jobs.finalizer and all(job.state == "PENDING" for job in elements):
                slurm_commands.command("scancel", jobs.finalizer)
                end(launch.folder)
        except UsageError as error:  # another user's; when they start they find nothing to do
            return f"{jobs.described}: {error}"
        return ""

    def template(
        self, run: Program, *, folder: Path, name: str, code: Path, after: Sequence[str] = ()
    ) -> submitit.SlurmExecutor:
        """Return submitit's executor for workers that do runs like this one, which import our packages from ``code``;
        or for a finalizer job of one core, which starts ``after`` these arrays, however they end."""
        try:
            template = submitit.SlurmExecutor(folder / "%j", max_num_timeout=MAX_REQUEUES)
        except RuntimeError as error:
            raise UsageError("there is no srun on this machine; is it a login node of a SLURM cluster?") from error
        shared = GPU_CORES if run.device == "cuda" and run.loaders is None else 0
        cores = self.cpus_per_task or run.threads + (run.loaders or 0) + shared
        # srun of SLURM 22.05 to 23.02 does not take its job's number of cores by itself.
        exports = worker_environment(run, cores) | {"SRUN_CPUS_PER_TASK": str(cores)}
        setup = [*self.setup, *(f"export {key}={shlex.quote(value)}" for key, value in exports.items())]
        setup.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
        more = {key: value or True for key, _, value in (word.partition("=") for word in self.more)}
        values: dict[str, Any] = {
            "job_name": name,
            "time": self.minutes,
            "cpus_per_task": cores,
            "signal_delay_s": self.signal_seconds,
            "array_parallelism": self.array_parallelism,
            "setup": setup,
        }
        values |= {key: getattr(self, key) for key in PLAIN_KEYS if getattr(self, key) is not None}
        if run.ranks > 1 and not after:
            values |= {"nodes": self.nodes, "ntasks_per_node": run.ranks // self.nodes}
        if after:
            values |= {"dependency": f"afterany:{':'.join(after)}", "cpus_per_task": 1, "use_srun": False}
            values = {key: value for key, value in values.items() if key not in ("gres", "gpus_per_node", "mem")}
            more = {key: value for key, value in more.items() if not RESOURCES.search(key)}
        template.update_parameters(**values, additional_parameters={"requeue": True} | more)
        return template


@dataclasses.dataclass(frozen=True)
class ArrayWorker(Checkpointable):
    """The job of an array element, or of all processes of a run with several ranks. A requeued job starts over, and its
    runs resume from their checkpoints."""

    launch_dir: Path
    start: int  # as in Work.of_worker

    def __call__(self) -> WorkerReport:
        if not self.launch_dir.exists():  # requeued after all runs were done
            return WorkerReport()
        work = read_work(self.launch_dir).of_worker(self.start)
        worker = Worker(work, self.launch_dir, runs_per_gpu=None, log=_log())
        report = worker.work() if work.configs[0].ranks == 1 else self._work_together(worker, work.configs[0])
        end_job(report)
        return report

    def _work_together(self, worker: Worker, run: Program) -> WorkerReport:
        # As one of the job's ranks: rank 0 is the worker, and the others follow it.
        from aimv2.training.distributed import dismiss

        # ``aimv2.training.distributed.place`` chooses the GPU: it knows whether SLURM shows a rank its own GPU only.
        if TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True).rank:
            with contextlib.suppress(KeyboardInterrupt), Interrupts().listening() as interrupts:
                follow(run, interrupts)
            return WorkerReport()
        try:
            return worker.work()
        finally:
            dismiss()


def _log() -> str:
    """Return the path of this job's log, which submitit writes; empty if this is no job."""
    try:
        return str(JobEnvironment().paths.stderr.resolve())
    except RuntimeError:
        return ""


def end_job(report: WorkerReport) -> None:
    """Fail the job if its worker could not work, or have it requeued if its time was up."""
    if report.problem:
        raise UsageError(report.problem)
    if report.signal == signal.SIGUSR2:
        # The run is released with a checkpoint. Raised again, now that submitit listens, the signal makes it request a
        # requeue. SIGTERM must not: SLURM requeues jobs that it preempts, and otherwise a user's scancel is meant.
        signal.raise_signal(signal.SIGUSR2)


@dataclasses.dataclass(frozen=True)
class FinalizerJob(Checkpointable):
    """The job that starts when no worker of the array is left, however the workers ended."""

    launch_dir: Path
    plan: Plan  # whose reports it writes
    executor: SlurmExecutor  # with which lost runs are submitted again
    reports_dir: Path | None  # where the reports are written; None for runs of no study
    num_attempts: int = 0  # at the launch's runs when the array was submitted (sweeps.plan.OpenTasks)
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
        # For runs of another launch, of a worker that outlived its node, or of a dead one whose lease has not expired.
        started, task_list = time.monotonic(), work.task_list(self.plan.runs_dir)
        while (now := task_list.open_tasks()).held or now.unsure:
            if time.monotonic() - started > 60 * self.executor.minutes - self.executor.signal_seconds:
                signal.raise_signal(signal.SIGUSR2)  # SLURM signals the steps of a job, and this job has none
            time.sleep(self.poll_seconds)
        return now


def submit_workers(finalizer: FinalizerJob, tasks: Sequence[Task]) -> Jobs:
    """Submit an array of workers per number of ranks, and the finalizer job, which waits for them; all or none. Workers
    begin with these tasks at equal distances."""
    launch_dir, executor, runs_dir = finalizer.launch_dir, finalizer.executor, finalizer.plan.runs_dir
    work = read_work(launch_dir)
    num_attempts = work.task_list(runs_dir).open_tasks().num_attempts
    place = {task.name: place for place, task in enumerate(work.tasks)}
    folder = runs_dir / LOGS / launch_dir.name
    template = partial(executor.template, folder=folder, name=launch_dir.name, code=freeze(runs_dir))
    jobs = Jobs({}, "", slurm_commands.cluster_setting("ClusterName"))
    try:
        for ranks in sorted({task.config.ranks for task in tasks}):
            group = [task for task in tasks if task.config.ranks == ranks]
            number = executor.num_workers([task.config for task in group])
            if number > 1 and (size := slurm_commands.cluster_setting("MaxArraySize")).isdecimal():
                number = min(number, max(int(size) - 1, 1))  # the largest index is below it
            starts = [place.get(group[len(group) * worker // number].name, 0) for worker in range(number)]
            workers = [ArrayWorker(launch_dir, start) for start in starts]
            array = slurm_commands.submit(template(group[0].config), workers)
            jobs = replace(jobs, arrays=jobs.arrays | {array: number})
            write_jobs(launch_dir, jobs)
        after = template(finalizer.plan.cells[0].config, after=list(jobs.arrays))
        last = slurm_commands.submit(after, [replace(finalizer, num_attempts=num_attempts)])
        jobs = replace(jobs, finalizer=last)
    except UsageError:
        if jobs.arrays:
            slurm_commands.command("scancel", *jobs.arrays)  # without a finalizer job, lost runs would stay lost
        raise
    write_jobs(launch_dir, jobs)
    return jobs
