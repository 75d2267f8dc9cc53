"""Answers of SLURM's commands."""

from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.active_launches import Queued
from aimv2.sweeps.executors.slurm_commands import check_accepted, queue
from tests.helpers.slurm import EXECUTOR


@pytest.fixture
def template(slurm, tiny, tmp_path):
    return EXECUTOR.template(tiny, folder=tmp_path / "jobs", name="sweep-1", code=tmp_path)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            "sbatch: error: invalid partition specified: nope\\nallocation failure: Invalid partition name specified",
            r"SLURM's sbatch reports: invalid partition specified: nope \(executor.partition\). Allowed: main, urgent;",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            r"Invalid account or account/partition combination specified \(executor.partition or executor.account\)",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            r"reports: Unable to contact slurm controller \(connect failure\); nothing was submitted",
        ),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\\nsbatch: error: Batch job"
            " submission failed: Resource temporarily unavailable",
            r"Resource temporarily unavailable \(its queue is full; later, or with fewer executor.workers\); nothing",
        ),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\\nsbatch: error: Batch job submission failed: Job violates"
            " accounting/QOS policy (job submit limit, user's size and/or time limits)",
            r"time limits\) \(executor.account or .* or executor.minutes or fewer executor.workers\); nothing",
        ),
    ],
)
def test_a_refusal_is_one_sentence(template, slurm, answer, sentence):
    slurm.refuse("sbatch", answer)
    slurm.put("sinfo", "printf 'main\\nurgent\\n'")
    with pytest.raises(UsageError, match=sentence):
        check_accepted(template)


def test_a_refusal_says_what_was_requested_and_what_nodes_have(slurm, tiny, tmp_path):
    executor = replace(EXECUTOR, partition="main", mem="9000GB", cpus_per_task=4)
    template = executor.template(tiny, folder=tmp_path / "jobs", name="sweep-1", code=tmp_path)
    answer = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    slurm.refuse("sbatch", answer)
    nodes = r"printf '2|8|64000|gpu:a100:4|a100\n2|8|64000|gpu:a100:4|a100\n1|16|128000|(null)|(null)\n'"
    slurm.put("sinfo", f'[ "$*" = "--noheader --exact --format=%D|%c|%m|%G|%f --partition=main" ] && {nodes}')
    with pytest.raises(UsageError) as error:
        check_accepted(template)
    assert str(error.value) == (
        "SLURM's sbatch reports: Requested node configuration is not available (executor.mem, executor.cpus_per_task or"
        " executor.gres). Requested per node: cpus_per_task=4, mem=9000GB, partition=main. Nodes there: 2 with 8 cores,"
        " 64000 MB, gres gpu:a100:4, features a100; 1 with 16 cores, 128000 MB, gres none, features none; nothing"
        " was submitted"
    )
    slurm.refuse("sinfo", "sinfo: error: no")
    with pytest.raises(UsageError, match=r"or executor\.gres\); nothing was submitted"):
        check_accepted(template)


def test_a_missing_command_is_one_sentence(template, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="there is no sbatch on this machine; is it a login node"):
        check_accepted(template)
    assert queue("sweep-1") is None


def test_a_users_defaults_of_squeue_are_ignored(slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    slurm.put("squeue", 'echo "7|${SQUEUE_STATES:-ALL}|None"')
    assert queue("sweep-1") == [Queued("7", "ALL", "None")]
