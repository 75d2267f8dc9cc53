"""A run on two nodes, one rank each, is interrupted and loses a rank; it is compared with the same run on one rank."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

STEPS = 128
BUDGET = (f"budget.samples={32 * STEPS}", "budget.batch_size=32")
ARGUMENTS = ("launch.py", "sweep=prefix_ratio", "sweep.arms=[uniform]", "sweep.seeds=1", *BUDGET)
COMPARED = ["text_loss", "pixel_loss", "gradient_norm"]


@pytest.fixture(scope="module")
def folder(slurm, typed, wait_for, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    request = typed(folder, *ARGUMENTS, "executor=slurm", "executor.minutes=30", "ranks=2", "executor.nodes=2")
    assert request.returncode == 0, request.stdout + request.stderr
    wait_for(lambda: list(folder.glob("runs/v2-*/attempts/0001/checkpoint/*")))
    at_work = slurm("squeue", "--noheader", "--state=RUNNING", "--format=%D %A").split("\n")
    (job,) = (line.split()[1] for line in at_work if line.startswith("2 "))
    slurm("scancel", "--signal=USR2", job)  # as before a time limit
    wait_for(lambda: list(folder.glob("runs/v2-*/attempts/0002/checkpoint/*")))
    os.kill(wait_for(lambda: process_of_rank(1, folder)), signal.SIGKILL)
    slurm.wait_until_empty()
    alone = typed(folder, *ARGUMENTS, "executor=debug")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    return folder


def process_of_rank(rank, folder):
    """Return the number of a rank's process, in whichever job: the requeued one, or the finalizer's, if that was lost.
    None if there is none yet."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_python = b"submitit.core._submit" in (path / "cmdline").read_bytes()
            if is_python and b"SLURM_PROCID=%d" % rank in (path / "environ").read_bytes().split(b"\0"):
                return int(path.name)
    assert not list(folder.glob("runs/v2-*/attempts/0002/result.json")), "the run ended before it lost a rank"
    return None


def trained(folder, ranks):
    """Return the finished run of so many ranks that was trained."""
    for path in folder.glob("runs/v2-*/config.json"):
        config = json.loads(path.read_text())
        if config["ranks"] == ranks and config["budget"]["samples"]:
            return path.parent
    raise AssertionError(f"no run of {ranks} ranks")


def rows(run):
    attempt = json.loads((run / "result.json").read_text())["attempt"]
    return pd.read_json(run / "attempts" / f"{attempt:04d}" / "metrics.jsonl", lines=True).set_index("step").loc[1:]


def test_two_ranks_resume_after_a_requeue_and_after_the_loss_of_one(folder):
    run = trained(folder, 2)
    assert (run / "attempts" / "0001" / "interrupted").exists()
    assert "another rank ended" in json.loads((run / "attempts" / "0002" / "failure.json").read_text())["message"]
    assert json.loads((run / "result.json").read_text())["attempt"] > 2


def test_two_ranks_on_two_nodes_have_the_losses_of_one(folder):
    two, one = (rows(trained(folder, ranks)) for ranks in (2, 1))
    assert len(two) == len(one) == STEPS
    pd.testing.assert_frame_equal(two[COMPARED], one[COMPARED], rtol=1e-4, atol=0, check_exact=False)
