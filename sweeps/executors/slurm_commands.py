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
REFUSALS = re.compile(r"^\w+: (?:error: )?(.*)$")
STEPS = re.compile("^(Batch job submission failed|allocation failure): ")  # where it refused, before the reason


def check_accepted(template: submitit.SlurmExecutor) -> None:
    """Raise a UsageError with SLURM's reason unless it would accept such a job."""
    try:
        command("sbatch", "--test-only", script=template._make_submission_file_text("true", "test-only"))
    except UsageError as error:
        raise UsageError(f"{error}; nothing was submitted") from error


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
    """Return a command's last complaint as a sentence."""
    lines = [line_match[1] for line in answer.strip().splitlines() if (line_match := REFUSALS.match(line.strip()))]
    complaint = (lines or answer.strip().splitlines() or ["nothing"])[-1].rstrip(". ")
    return f"SLURM's {name} reports: {STEPS.sub('', complaint)}"
