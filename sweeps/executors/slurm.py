"""``executor=slurm``: workers as elements of a job array, and what each job of a launch requests."""

import contextlib
import math
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.sweeps.active_launches import LOGS, ActiveLaunch, Queued, end, new_launch
from aimv2.sweeps.executors import slurm_commands
from aimv2.sweeps.executors.base import Executor, RunsPerGpu, check_gpu_sharing, cores_per_run, cores_to_share
from aimv2.sweeps.executors.slurm_jobs import FinalizerJob, submit_workers
from aimv2.sweeps.freeze import FOLDER as CODE
from aimv2.sweeps.freeze import worker_environment
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.status.board import Board
from aimv2.sweeps.tasks import Work, write_work

MAX_REQUEUES = 10**6  # submitit counts time limits reached; a run that makes progress may continue for ever
PROBE_MINUTES, PROBE_SIGNAL_SECONDS = 15, 60
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
        partition, account, qos, constraint, nodelist, exclude, gres, gpus_per_node: as in ``sbatch``.
        mem: as in ``sbatch``: per node, such as 8GB, for all workers of an element.
        cpus_per_task: cores of an element, for all its workers; None is one per thread and loader process, and as many
            more as a GPU's loader takes with ``loader.num_workers=auto``.
        runs_per_gpu: workers that share an element's GPU; ``auto`` is as many as its memory holds, by prediction, and
            ``cpus_per_task`` has cores for.
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
    runs_per_gpu: RunsPerGpu = 1
    more: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.signal_seconds >= 60 * self.minutes:
            raise ValueError(
                f"signal_seconds={self.signal_seconds} leaves nothing of minutes={self.minutes}: workers would be"
                " interrupted as they start"
            )
        for key in self.more:
            if not KEY.fullmatch(key):
                raise ValueError(
                    f"more has {key!r}: it takes long names without leading dashes, such as hold or reservation=x"
                )
            if (name := key.partition("=")[0]) in OWN_KEYS:
                raise ValueError(f"more has {key!r}: {name} is set by the launch or has a key of its own")

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        """The device of the requested nodes."""
        has_gpu = self.gpus_per_node is not None or "gpu" in (self.gres or "") or any("gpu" in key for key in self.more)
        return "cuda" if has_gpu else "cpu"

    def for_probes(self) -> Self:
        """Return the same with a time limit that finds a gap in the queue."""
        minutes, seconds = min(self.minutes, PROBE_MINUTES), min(self.signal_seconds, PROBE_SIGNAL_SECONDS)
        return replace(self, minutes=minutes, signal_seconds=seconds)

    def check(self, runs: Sequence[Program]) -> None:
        """Refuse ranks that the nodes cannot hold, and runs that cannot share a GPU."""
        ranks = max(run.ranks for run in runs)  # untrained encoders have one
        if ranks % self.nodes:
            raise UsageError(f"ranks={ranks} cannot be spread evenly over executor.nodes={self.nodes}")
        if ranks > 1 and self.workers is not None:
            raise UsageError(f"executor.workers={self.workers} and ranks={ranks}: such runs need one job each")
        check_gpu_sharing(self.runs_per_gpu, runs)
        if self.runs_per_gpu == 1:
            return
        each = cores_per_run(runs)
        needed = each * (2 if self.runs_per_gpu == "auto" else self.runs_per_gpu)
        if (self.cpus_per_task or (0 if self.runs_per_gpu == "auto" else needed)) < needed:
            raise UsageError(
                f"executor.runs_per_gpu={self.runs_per_gpu} needs executor.cpus_per_task={needed} or more: {each} per"
                " run, for its threads and loader processes"
            )

    def num_workers(self, runs: Sequence[Program]) -> int:
        return self.num_elements(runs) * self.max_runs(runs)

    def test(self, runs: Sequence[Program], runs_dir: Path) -> str:
        if shutil.which("sbatch") is None:
            return "whether SLURM accepts this was not tested: there is no sbatch on this machine"
        self._test_arrays(runs, runs_dir)
        return ""

    def launch(self, plan: Plan, work: Work, reports_dir: Path | None, board: Board) -> bool:
        """Submit workers for this work and the finalizer job, and return at once.

        A run that another launch has in the queue too is done by the worker that comes first.

        Raises:
            UsageError: SLURM refuses; nothing stays in the queue.
        """
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
        for run in {run.ranks: run for run in runs}.values():
            slurm_commands.check_accepted(
                self.template(run, folder=runs_dir / LOGS, name="test-only", code=runs_dir / CODE)
            )

    @staticmethod
    def queue(launch: ActiveLaunch) -> list[Queued] | None:
        if found := slurm_commands.queue(launch.folder.name):
            return found
        # An empty queue proves nothing about jobs of another cluster, or of another user, which SLURM may hide.
        with contextlib.suppress(FileNotFoundError, UsageError):
            is_here = launch.jobs is not None and slurm_commands.cluster_setting("ClusterName") == launch.jobs.cluster
            return found if is_here and launch.folder.stat().st_uid == os.getuid() else None
        return None

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        jobs, found = launch.jobs, slurm_commands.queue(launch.folder.name)
        assert jobs is not None, "it is of this executor"
        if found is None:
            return f"{jobs.described}: SLURM does not answer; cancel again when it does"
        try:
            elements = [job for job in found if job.array in jobs.arrays]
            if pending := {job.array for job in elements if job.state == "PENDING"}:
                slurm_commands.command("scancel", "--state=PENDING", *sorted(pending))
            if jobs.finalizer and all(job.state == "PENDING" for job in elements):
                slurm_commands.command("scancel", jobs.finalizer)
                end(launch.folder)
        except UsageError as error:  # another user's; when they start they find nothing to do
            return f"{jobs.described}: {error}"
        return ""

    def max_runs(self, runs: Sequence[Program]) -> int:
        """Return the largest number of these runs that an element does at once, if they passed ``check``."""
        if self.runs_per_gpu == "auto":
            return (self.cpus_per_task or 0) // cores_per_run(runs)
        return self.runs_per_gpu

    def num_elements(self, runs: Sequence[Program]) -> int:
        """Return the number of array elements for these runs."""
        at_once = 1 if self.runs_per_gpu == "auto" else self.runs_per_gpu
        return min(self.workers or math.ceil(len(runs) / at_once), len(runs))

    def template(
        self, run: Program, *, folder: Path, name: str, code: Path, after: Sequence[str] = ()
    ) -> submitit.SlurmExecutor:
        """Return submitit's executor for workers that do runs like this one, or for a finalizer job.

        Args:
            code: folder from which workers import our packages.
            after: ids of the arrays after which a finalizer job of one core starts, however they end; empty for an
                array itself.
        """
        try:
            template = submitit.SlurmExecutor(folder / "%j", max_num_timeout=MAX_REQUEUES)
        except RuntimeError as error:
            raise UsageError("there is no srun on this machine; is it a login node of a SLURM cluster?") from error
        cores = self.cpus_per_task or self.max_runs([run]) * cores_per_run([run]) + cores_to_share(run)
        # srun of SLURM 22.05 to 23.02 does not take its job's number of cores by itself.
        exports = worker_environment(run, cores) | {"SRUN_CPUS_PER_TASK": str(cores)}
        setup = [*self.setup, *(f"export {key}={shlex.quote(value)}" for key, value in exports.items())]
        setup.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
        more = {key: value or True for key, _, value in (one.partition("=") for one in self.more)}
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
