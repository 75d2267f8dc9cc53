"""What each job of a launch on SLURM requests: the keys of ``executor=slurm``, and submitit's template of a job."""

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from sweeps.executors.base import RunsPerGpu, cores_per_run, cores_to_share
from sweeps.freeze import worker_environment

MAX_REQUEUES = 10**6  # submitit counts time limits reached; a run that makes progress may continue for ever
PLAIN_KEYS = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "gpus_per_node", "mem")
OWN_KEYS = frozenset(key.replace("_", "-") for key in PLAIN_KEYS) | {
    *("array", "cpus-per-task", "dependency", "error", "job-name", "nodes", "ntasks", "ntasks-per-node"),
    *("open-mode", "output", "requeue", "signal", "time"),
}
RESOURCES = re.compile("gpu|mem|cpu|core|task|exclusive")  # in a key's name; the finalizer job needs one core only
KEY = re.compile(r"[a-z][a-z0-9-]*(=[^\n]*)?")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SlurmResources:
    """The keys of ``executor=slurm``. What is None is left to the cluster.

    Attributes:
        workers: elements of the array; by default one per run. With fewer, each does several runs.
        nodes: of a run of several ranks (``ranks=8``), which are spread evenly over them; such runs have a job each.
        minutes: a job's time limit; a longer run resumes from its checkpoint after a requeue.
        signal_seconds: time before that limit at which a worker saves a checkpoint; enough for a step and that.
        array_parallelism: largest number of elements that run at once.
        partition, account, qos, constraint, nodelist, exclude, gres, gpus_per_node: as in ``sbatch``.
        mem: as in ``sbatch``, per node, such as ``8GB``, for all workers of an element.
        cpus_per_task: cores of an element, for all its workers; by default one per thread and loader process, and
            GPU_CORES more with ``loader.num_workers=auto`` on a GPU.
        runs_per_gpu: workers that share an element's GPU; ``auto`` is as many as its memory holds, by prediction, and
            ``cpus_per_task`` has cores for.
        more: other keys of ``sbatch`` by their long names, such as ``hold`` or ``reservation=ablations``.
        setup: lines of shell before Python starts, such as ``module load cuda``.
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

    def max_runs(self, runs: Sequence[RunConfig]) -> int:
        """Return the largest number of these runs that an element does at once, if they passed ``check``."""
        if self.runs_per_gpu == "auto":
            return (self.cpus_per_task or 0) // cores_per_run(runs)
        return self.runs_per_gpu

    def num_elements(self, runs: Sequence[RunConfig]) -> int:
        """Return the number of array elements for these runs."""
        at_once = 1 if self.runs_per_gpu == "auto" else self.runs_per_gpu
        return min(self.workers or math.ceil(len(runs) / at_once), len(runs))

    def template(
        self, run: RunConfig, *, folder: Path, name: str, code: Path, after: Sequence[str] = ()
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
