"""SLURM's commands: what is asked of sbatch, squeue and scancel, and what they answer.

Accounting (sacct) is never asked, for clusters without it; what became of a run stands in its folder.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import submitit
from pydantic import Field
from pydantic.dataclasses import dataclass
from submitit.core.utils import FailedJobError, FailedSubmissionError

from aimv2.config.run_config import CHECKED, RunConfig
from aimv2.errors import UsageError
from sweeps.executors.pack import check_sharing
from sweeps.freeze import variables

TIMEOUT_SECONDS = 60.0  # of a command; SLURM's own give up before
MAX_REQUEUES = 10**6  # submitit counts a job's ends by time; a run that makes progress may go on for ever
REFUSALS = re.compile(r"^\w+: (?:error: )?(?:Batch job submission failed: |allocation failure: )?(.*)$")
KEY_OF = {  # what an answer of sbatch is about, by a word in it
    "partition": "executor.partition",
    "account": "executor.account",
    "qos": "executor.qos",
    "feature": "executor.constraint",
    "node name": "executor.nodelist or executor.exclude",
    "gres": "executor.gres or executor.gpus_per_node",
    "node configuration": "executor.mem, executor.cpus_per_task or executor.gres",
    "time limit": "executor.minutes",
    "array": "executor.workers",
    "submit limit": "fewer executor.workers",
    "temporarily unavailable": "its queue is full; later, or with fewer executor.workers",
}
PLAIN_KEYS = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "gpus_per_node", "mem")
OWN_KEYS = frozenset(key.replace("_", "-") for key in PLAIN_KEYS) | {
    *("array", "cpus-per-task", "dependency", "error", "job-name", "nodes", "ntasks", "ntasks-per-node"),
    *("open-mode", "output", "requeue", "signal", "time"),
}
RESOURCES = re.compile("gpu|mem|cpu|core|task|exclusive")  # in a key's name; one core has to do without

KEY = re.compile(r"[a-z][a-z0-9-]*(=[^\n]*)?")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SlurmConfig:
    """Workers as elements of a job array. What is null is the cluster's to choose.

    Attributes:
        workers: how many elements; None is one a run.
        nodes: of a run of several ranks, which are shared out evenly over them; any other run has one.
        minutes: a job's time limit.
        signal_seconds: how long before that a worker is told to keep a checkpoint.
        array_parallelism: elements at work at once, at most.
        partition, account, qos, constraint, nodelist, exclude, gres, gpus_per_node, mem: sbatch's.
        cpus_per_task: None is a core for each of a run's threads and loader processes.
        share_gpu: an element does as many runs at once as fit its GPU's memory and its cores. Each takes longer then.
        more: any other keys of sbatch, by their long names: ``reservation=x``, or ``hold`` for one without a value.
        setup: lines of shell before Python starts.
    """

    cluster: Literal["slurm"]
    workers: int | None = Field(default=None, gt=0)
    nodes: int = Field(default=1, gt=0)
    minutes: int = Field(gt=0)
    signal_seconds: int = Field(gt=0)
    array_parallelism: int = Field(gt=0)
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
    share_gpu: bool = False
    more: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.signal_seconds >= 60 * self.minutes:
            raise ValueError(
                f"signal_seconds={self.signal_seconds} leaves nothing of minutes={self.minutes}: workers would be told"
                " to end as they start"
            )
        for key in self.more:
            if not KEY.fullmatch(key):
                raise ValueError(
                    f"more has {key!r}: it takes long names without dashes in front, as hold or reservation=x"
                )
            if (name := key.partition("=")[0]) in OWN_KEYS:
                raise ValueError(f"more has {key!r}: {name} is the launch's to say, or a key of its own here")

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        """What ``device=auto`` comes to on the nodes that are asked for."""
        asks = self.gpus_per_node is not None or "gpu" in (self.gres or "") or any("gpu" in key for key in self.more)
        return "cuda" if asks else "cpu"

    def num_workers(self, runs: Sequence[RunConfig]) -> int:
        """Workers for these runs, if each is to have one."""
        return self.workers or len(runs)

    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse runs that these workers cannot do.

        Raises:
            UsageError: nodes cannot have their ranks, or they cannot share a GPU.
        """
        ranks = max(run.ranks for run in runs)  # the untrained have one
        if ranks % self.nodes:
            raise UsageError(f"ranks={ranks} cannot be shared out evenly over executor.nodes={self.nodes}")
        if ranks > 1 and self.workers is not None:
            raise UsageError(f"executor.workers={self.workers} and ranks={ranks}: such runs have a job each")
        self.runs_per_gpu(runs)

    @property
    def speed_unknown(self) -> str:
        return "the speed of SLURM's nodes is not known here"

    def describe_workers(self, num_workers: int) -> str:
        return f"{num_workers} worker{'s' * (num_workers > 1)} of a SLURM array"

    def runs_per_gpu(self, runs: Sequence[RunConfig]) -> int:
        """Runs that an element does at once, at most.

        Raises:
            UsageError: they cannot share a GPU, or it is not said that there are cores for two.
        """
        if not self.share_gpu:
            return 1
        check_sharing(runs)
        each = max(run.threads + run.loader.num_workers for run in runs)
        if self.cpus_per_task is None or self.cpus_per_task < 2 * each:
            raise UsageError(
                f"executor.share_gpu=true needs executor.cpus_per_task for the runs of a GPU, at least {2 * each}: each"
                f" takes {each}, for its threads and loader processes"
            )
        return self.cpus_per_task // each


@dataclass(frozen=True)
class Queued:
    """An element of an array that is in the queue.

    Attributes:
        state: SLURM's word, such as ``PENDING``.
        reason: why it is not at work, such as ``Resources``.
    """

    job: str
    state: str
    reason: str

    @property
    def array(self) -> str:
        """Its array's id."""
        return self.job.partition("_")[0]


def executor(
    config: SlurmConfig, run: RunConfig, *, folder: Path, name: str, code: Path, after: Sequence[str] = ()
) -> submitit.SlurmExecutor:
    """submitit's executor for workers that do runs like this one.

    Args:
        folder: of what submitit writes.
        name: of the jobs.
        code: where workers import our packages from.
        after: arrays behind which, however they end, one job of one core is to run; none is for an array itself.
    """
    try:
        made = submitit.SlurmExecutor(folder / "%j", max_num_timeout=MAX_REQUEUES)
    except RuntimeError as error:
        raise UsageError("there is no srun on this machine; is it a login node of a SLURM cluster?") from error
    cores = config.cpus_per_task or run.threads + run.loader.num_workers
    # srun of SLURM 22.05 to 23.02 does not take its job's cores by itself.
    exports = variables(run) | {"SRUN_CPUS_PER_TASK": str(cores)}
    setup = [*config.setup, *(f"export {key}={shlex.quote(value)}" for key, value in exports.items())]
    setup.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
    more = {key: value or True for key, _, value in (one.partition("=") for one in config.more)}
    values: dict[str, Any] = {
        "job_name": name,
        "time": config.minutes,
        "cpus_per_task": cores,
        "signal_delay_s": config.signal_seconds,
        "array_parallelism": config.array_parallelism,
        "setup": setup,
    }
    values |= {key: getattr(config, key) for key in PLAIN_KEYS if getattr(config, key) is not None}
    if run.ranks > 1 and not after:
        values |= {"nodes": config.nodes, "ntasks_per_node": run.ranks // config.nodes}
    if after:
        values |= {"dependency": f"afterany:{':'.join(after)}", "cpus_per_task": 1, "use_srun": False}
        values = {key: value for key, value in values.items() if key not in ("gres", "gpus_per_node", "mem")}
        more = {key: value for key, value in more.items() if not RESOURCES.search(key)}
    made.update_parameters(**values, additional_parameters={"requeue": True} | more)
    return made


def check(made: submitit.SlurmExecutor) -> None:
    """Ask SLURM whether it would take such a job; nothing is submitted.

    Raises:
        UsageError: it would not, and says why.
    """
    with TemporaryDirectory() as folder:
        script = Path(folder) / "test-only.sh"
        script.write_text(made._make_submission_file_text("true", "test-only"))
        try:
            command("sbatch", "--test-only", str(script))
        except UsageError as error:
            raise UsageError(f"{error}; nothing was submitted") from error


def submit(made: submitit.SlurmExecutor, jobs: Sequence[Callable[[], Any]]) -> str:
    """Submit one job, or several as one array; gives its id.

    A submission that SLURM has accepted and not answered is withdrawn, and made once more.

    Raises:
        UsageError: SLURM refuses it, or cannot be reached.
    """
    name = made.parameters["job_name"]
    before = {queued.job for queued in queue(name) or []}
    for is_last in (False, True):
        try:
            # submitit prints what sbatch complains of; we say it in a sentence
            with _outside_a_job(), contextlib.redirect_stderr(io.StringIO()), made.batch():
                submitted = [made.submit(job) for job in jobs]
            return str(submitted[0].job_id).partition("_")[0]
        except (FailedJobError, FailedSubmissionError) as error:
            now = queue(name)
            if now is None:
                raise UsageError(
                    f"{_sentence('sbatch', str(error))}; squeue does not answer either. If it was accepted, take it out"
                    f" with: scancel --name={name}"
                ) from error
            accepted = {queued.array for queued in now if queued.job not in before}
            for job in accepted:
                command("scancel", job)
            if is_last or not accepted:
                raise UsageError(f"{_sentence('sbatch', str(error))}; nothing was submitted") from error
    raise AssertionError("unreachable")


def queue_of(launch: Path, cluster: str) -> list[Queued] | None:
    """What is in the queue of a launch; None also where nothing is shown and that means nothing: it was launched on
    another cluster, or by another user, whose jobs SLURM may hide."""
    found = queue(launch.name)
    try:
        is_own = launch.stat().st_uid == os.getuid() and cluster_name() == cluster
    except (FileNotFoundError, UsageError):
        is_own = False
    return found if found or is_own else None


def queue(name: str) -> list[Queued] | None:
    """What is in the queue under a job's name, an entry an element; None if squeue cannot be asked from here."""
    try:
        answer = command("squeue", "--noheader", "--all", "--array", f"--name={name}", "--format=%i|%T|%r")
    except UsageError:
        return None
    return [Queued(*line.strip().split("|", 2)) for line in answer.splitlines() if line.count("|") >= 2]


def max_array_size() -> int | None:
    """Elements that an array may have, if SLURM says."""
    size = _setting("MaxArraySize")
    return int(size) - 1 if size.isdecimal() else None  # the largest index is below it


def cluster_name() -> str:
    """This cluster's, if SLURM says."""
    return _setting("ClusterName")


def _setting(name: str) -> str:
    """One of the controller's; empty if it has none of that name.

    Raises:
        UsageError: it cannot be asked.
    """
    found = re.search(rf"^{name}\s*=\s*(\S+)", command("scontrol", "show", "config"), re.MULTILINE)
    return found[1] if found else ""


def partitions() -> list[str]:
    """Names of the cluster's."""
    return command("sinfo", "--noheader", "--format=%R").split()


def command(*words: str) -> str:
    """Run one of SLURM's commands; gives what it prints.

    Raises:
        UsageError: it is not there, refuses, or does not answer.
    """
    try:
        # Without what a user has squeue show by default.
        asked = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True, env=asked)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {words[0]} on this machine; is it a login node of a SLURM cluster?") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{words[0]} did not answer within {TIMEOUT_SECONDS:.0f} s; try again later") from error
    except subprocess.CalledProcessError as error:
        raise UsageError(_sentence(words[0], error.stderr)) from error
    return done.stdout


def _sentence(who: str, answer: str) -> str:
    """The last thing that a command complains of, and which key it is about."""
    lines = [found[1] for line in answer.strip().splitlines() if (found := REFUSALS.match(line.strip()))]
    said = (lines or answer.strip().splitlines() or ["nothing"])[-1].rstrip(". ")
    keys = [key for word, key in KEY_OF.items() if word in said.lower()]
    hint = f" ({' or '.join(keys)})" if keys else ""
    if keys == ["executor.partition"]:
        hint += _allowed_partitions()
    return f"SLURM's {who} says: {said}{hint}"


def _allowed_partitions() -> str:
    try:
        return f". Allowed: {', '.join(partitions())}"
    except UsageError:
        return ""


@contextmanager
def _outside_a_job() -> Iterator[None]:
    """Without the variables of a job that this process may be: sbatch would hand them on."""
    given = [key for key in os.environ if key.startswith(("SLURM_", "SUBMITIT_")) and key != "SLURM_CONF"]
    inside = {key: os.environ.pop(key) for key in given if "SLURM_JOB_ID" in given}
    try:
        yield
    finally:
        os.environ.update(inside)
