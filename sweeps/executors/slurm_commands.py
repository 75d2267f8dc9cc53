"""SLURM's commands: sbatch, squeue, scancel, scontrol and sinfo, their answers, and the jobs of launches in its queue.

Accounting (sacct) is never used, since some clusters have none; a run's folder records what happened to it.
"""

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env, environment_variables

from aimv2.base.errors import UsageError
from aimv2.sweeps.active_launches import Queued

TIMEOUT_SECONDS = 60.0  # of a command; SLURM's own time-outs are shorter
REFUSALS = re.compile(r"^\w+: (?:error: )?(?:Batch job submission failed: |allocation failure: )?(.*)$")
KEY_OF = {  # the key that a refusal of sbatch is about, by a word in it
    "partition": "executor.partition",
    "account": "executor.account",
    "qos": "executor.qos",
    "feature": "executor.constraint",
    "node name": "executor.nodelist or executor.exclude",
    "gres": "executor.gres or executor.gpus_per_node",
    "node configuration": "executor.mem, executor.cpus_per_task or executor.gres",
    "node count": "executor.nodes",
    "memory": "executor.mem",
    "cpu count": "executor.cpus_per_task",
    "time limit": "executor.minutes",
    "array": "executor.workers",
    "submit limit": "fewer executor.workers",
    "temporarily unavailable": "its queue is full; later, or with fewer executor.workers",
}
OF_A_NODE = ("node configuration", "node count", "memory", "cpu count", "gres", "feature")  # words about its resources
PER_NODE = ("nodes", "ntasks_per_node", "cpus_per_task", "mem", "gres", "gpus_per_node", "constraint")


def check_accepted(template: submitit.SlurmExecutor) -> None:
    """Raise a UsageError with SLURM's reason unless it would accept such a job."""
    try:
        command("sbatch", "--test-only", script=template._make_submission_file_text("true", "test-only"))
    except UsageError as error:
        compared = _compared(template) if any(word in str(error).lower() for word in OF_A_NODE) else ""
        raise UsageError(f"{error}{compared}; nothing was submitted") from error


def _compared(template: submitit.SlurmExecutor) -> str:
    """Say what a job asks for and what the nodes have; empty if SLURM does not tell."""
    requested = {key: template.parameters[key] for key in (*PER_NODE, "partition") if key in template.parameters}
    where = [f"--partition={requested['partition']}"] if "partition" in requested else []
    with contextlib.suppress(UsageError):
        answer = command("sinfo", "--noheader", "--exact", "--format=%D|%c|%m|%G|%f", *where)
        nodes = [
            "{} with {} cores, {} MB, gres {}, features {}".format(*map(str.strip, line.split("|")))
            for line in dict.fromkeys(answer.replace("(null)", "none").splitlines())
            if line.count("|") == 4
        ]
        text = ", ".join(f"{key}={value}" for key, value in requested.items())
        return f". Requested per node: {text}. Nodes there: {'; '.join(nodes) or 'none'}"
    return ""


def submit(template: submitit.SlurmExecutor, jobs: Sequence[Callable[[], Any]]) -> str:
    """Submit one job, or several as one array, and return its id. Jobs that SLURM accepted without an answer find no
    launch when they start, and end."""
    # In a job, sbatch would pass on the job's own variables. Those that are kept are the user's and the cluster's.
    kept = {key: value for key, value in os.environ.items() if key.startswith(("SBATCH_", "SLURM_CONF"))}
    outside = clean_env() if "SLURM_JOB_ID" in os.environ else contextlib.nullcontext()
    try:
        # submitit prints sbatch's complaints; we report them in a sentence
        with outside, environment_variables(**kept), contextlib.redirect_stderr(io.StringIO()), template.batch():
            submitted = [template.submit(job) for job in jobs]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UsageError(f"{_sentence('sbatch', str(error))}; nothing will run") from error
    return str(submitted[0].job_id).partition("_")[0]


def queue(name: str) -> list[Queued] | None:
    """Return the queued jobs of this name, one entry per array element; None if squeue cannot be used here."""
    try:
        answer = command("squeue", "--noheader", "--all", "--array", f"--name={name}", "--format=%F|%T|%r")
    except UsageError:
        return None
    return [Queued(*line.strip().split("|", 2)) for line in answer.splitlines() if line.count("|") >= 2]


def cluster_setting(name: str) -> str:
    """Return one of the controller's settings, such as ``ClusterName``; empty if it does not report it."""
    setting = re.search(rf"^{name}\s*=\s*(\S+)", command("scontrol", "show", "config"), re.MULTILINE)
    return setting[1] if setting else ""


def command(*words: str, script: str = "") -> str:
    """Run one of SLURM's commands, with a script as its input, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}  # user's defaults
    try:
        return subprocess.run(
            words, input=script, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True, env=environment
        ).stdout
    except FileNotFoundError as error:
        raise UsageError(f"there is no {words[0]} on this machine; is it a login node of a SLURM cluster?") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{words[0]} did not answer within {TIMEOUT_SECONDS:.0f} s; try again later") from error
    except subprocess.CalledProcessError as error:
        raise UsageError(_sentence(words[0], error.stderr)) from error


def _sentence(name: str, answer: str) -> str:
    """Return a command's last complaint as a sentence, with the keys that it is about."""
    lines = [matched[1] for line in answer.strip().splitlines() if (matched := REFUSALS.match(line.strip()))]
    complaint = (lines or answer.strip().splitlines() or ["nothing"])[-1].rstrip(". ")
    keys = [key for word, key in KEY_OF.items() if word in complaint.lower()]
    hint = f" ({' or '.join(keys)})" if keys else ""
    if keys == ["executor.partition"]:
        with contextlib.suppress(UsageError):
            hint += f". Allowed: {', '.join(command('sinfo', '--noheader', '--format=%R').split())}"
    return f"SLURM's {name} reports: {complaint}{hint}"
