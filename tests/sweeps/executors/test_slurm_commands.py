"""Answers of SLURM's commands."""

import os

import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.active_launches import Queued
from aimv2.sweeps.executors.slurm_commands import check_accepted, queue, submit
from tests.helpers.slurm import EXECUTOR


@pytest.fixture
def template(slurm, tiny, tmp_path):
    return EXECUTOR.template(tiny, folder=tmp_path / "jobs", name="sweep-1", code=tmp_path)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            "sbatch: error: invalid partition specified: nope\\nallocation failure: Invalid partition name specified",
            "SLURM's sbatch reports: invalid partition specified: nope; nothing was submitted",
        ),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\\nsbatch: error: Batch job"
            " submission failed: Resource temporarily unavailable",
            "SLURM's sbatch reports: Resource temporarily unavailable; nothing was submitted",
        ),
    ],
)
def test_a_refusal_is_one_sentence(template, slurm, answer, sentence):
    slurm.refuse("sbatch", answer)
    with pytest.raises(UsageError) as error:
        check_accepted(template)
    assert str(error.value) == sentence


def test_a_missing_command_is_one_sentence(template, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="there is no sbatch on this machine; is it a login node"):
        check_accepted(template)
    assert queue("sweep-1") is None


def test_a_users_defaults_of_squeue_are_ignored(slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    slurm.put("squeue", 'echo "7|${SQUEUE_STATES:-ALL}|None"')
    assert queue("sweep-1") == [Queued("7", "ALL", "None")]


def test_a_job_that_submits_passes_none_of_its_own_variables_on(template, slurm, monkeypatch, tmp_path):
    """Otherwise a finalizer job's core, node and time would be those of the workers that it submits again."""
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_COMMENT": "the user's"}
    for name, value in {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "1", "SUBMITIT_EXECUTOR": "slurm", **kept}.items():
        monkeypatch.setenv(name, value)
    slurm.put("sbatch", f"env | grep -E '^(SLURM|SBATCH|SUBMITIT)_' > {tmp_path}/passed; echo 'Submitted batch job 8'")
    before = dict(os.environ)
    assert submit(template, [print]) == "8"
    assert sorted((tmp_path / "passed").read_text().splitlines()) == sorted(f"{key}={kept[key]}" for key in kept)
    assert dict(os.environ) == before
