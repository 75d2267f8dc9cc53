"""Ranks that torchrun starts, each in a process of its own."""

import subprocess
import sys

import pytest

from aimv2.base.errors import UsageError
from aimv2.training.world import ALONE
from benchmarks.ranks import launched


def test_without_torchrun_a_benchmark_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched("cpu") as world:
        assert world is ALONE


def test_half_of_torchruns_variables_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE is set, but not RANK and "), launched("cpu"):
        pass


@pytest.mark.exhaustive
def test_two_ranks_time_a_step_together_and_one_prints():
    arguments = ["scale=demo", "precision=float32", "batch=4", "repeats=2", "threads=1", "device=cpu"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "benchmarks", "step"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training steps of 4 images") == 1
    assert "exposed communication" in done.stdout
