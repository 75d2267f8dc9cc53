"""One run, submitted by ``python -m aimv2 train executor=slurm``."""

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.training import small_run

ROOT = Path(__file__).parents[2]


def test_one_run_of_two_ranks_is_submitted_and_its_result_printed_later(slurm, prepared, cache_dir, tmp_path):
    command = [sys.executable, "-m", "aimv2", "train", *small_run(cache_dir, "ranks=2", f"runs_dir={tmp_path}")]
    more = ["executor=slurm", "executor.minutes=30", "executor.nodes=2"]
    submitted = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    slurm.wait_until_empty()
    ranks = [json.loads((path.parent / "config.json").read_text())["ranks"] for path in tmp_path.glob("*/result.json")]
    assert sorted(ranks) == [1, 2]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.count("is already done") == 2
