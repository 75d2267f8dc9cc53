"""Refusals of a cluster, and a large array."""

import os
import re

import pytest

ARGUMENTS = ("launch.py", "sweep=prefix_ratio", "executor=slurm")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("executor.partition=nope",), "invalid partition specified: nope (executor.partition). Allowed: main, urgent"),
        (("executor.account=nobody",), "Invalid account or account/partition combination specified (executor"),
        (
            ("executor.mem=9000GB",),
            "executor.gres). Requested per node: cpus_per_task=1, mem=9000GB. Nodes there: 2 with 1 cores, ",
        ),
        (("executor.nodes=3", "ranks=8"), "ranks=8 cannot be spread evenly over executor.nodes=3"),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing(slurm, typed, tmp_path, words, sentence):
    _assert_refused(typed(tmp_path, *ARGUMENTS, *words), sentence)
    assert slurm.queue() == []
    assert list(tmp_path.glob("runs/launches/*")) == []


def test_an_unreachable_controller_and_a_missing_sbatch_are_one_sentence(slurm, typed, tmp_path):
    text = (slurm.folder / "slurm.conf").read_text()
    (tmp_path / "slurm.conf").write_text(f"{text}SlurmctldPort=6999\n")
    refused = typed(tmp_path, *ARGUMENTS, env=os.environ | {"SLURM_CONF": str(tmp_path / "slurm.conf")})
    _assert_refused(refused, "Unable to contact slurm controller (connect failure); nothing was submitted")
    refused = typed(tmp_path, *ARGUMENTS, env=os.environ | {"PATH": "/nowhere"})
    _assert_refused(refused, "there is no srun on this machine; is it a login node of a SLURM cluster?")


def _assert_refused(done, sentence):
    assert done.returncode == 2
    assert sentence in done.stderr
    assert re.fullmatch(r"error: .*\n", done.stderr)


@pytest.fixture
def busy(slurm):
    """Keep both nodes busy."""
    job = slurm("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--output=/dev/null", "--wrap=sleep 600")
    yield job
    slurm("scancel", job.strip())


def test_a_thousand_runs_are_one_array_and_can_be_cancelled(slurm, busy, typed, tmp_path):
    request = typed(tmp_path, *ARGUMENTS, "sweep.seeds=250", "sweep.arms=[uniform,causal,fixed_50]")
    assert "submitted: 1000 workers as array" in request.stdout, request.stdout + request.stderr
    assert len(slurm.queue()) == 1 + 1000 + 1
    cancelled = typed(tmp_path, "manage.py", "cancel", "prefix_ratio", "yes=true")
    assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
    slurm("scancel", busy.strip())
    slurm.wait_until_empty()
    assert list(tmp_path.glob("runs/launches/*")) == []
    assert list(tmp_path.glob("runs/v2-*")) == []
