"""A plan for the cluster with the price of its nodes, measured by a probe that is a job there."""

import subprocess
import sys
from pathlib import Path

from aimv2.run.pricing.probe import FOLDER
from tests.helpers.sweeps import small_sweep

LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"


def test_a_probe_on_the_nodes_gives_time_hours_and_money(slurm, cache_dir, tmp_path):
    (tmp_path / "rates.yaml").write_text("rates: {cpu core: 0.03 EUR/h}\n")
    words = small_sweep(cache_dir, "sweep.arms=[uniform,causal]", "sweep.seeds=2", "executor=slurm", "dry_run=true")

    def planned(*more):
        command = [sys.executable, str(LAUNCH), *words, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())

    assert "the time is not known" in planned()
    shown = planned("probe=true", "rates=rates.yaml")
    assert "1 probe of 8 steps" in shown
    assert "submitted: 1 worker as array" in shown
    assert " on 6 workers" in shown
    assert "core-hours, " in shown
    assert " EUR" in shown
    assert len(list((tmp_path / "runs" / FOLDER).glob("*/v2-*/result.json"))) == 1
    assert not list((tmp_path / "runs").glob("v2-*"))
    again = planned("rates=rates.yaml", "limit=500EUR", "executor.minutes=10")
    assert again.partition("price: ")[2] == shown.partition("price: ")[2], "it is kept, and the same place"
    slurm.wait_until_empty()
