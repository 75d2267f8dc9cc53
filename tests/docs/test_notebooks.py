"""The notebook is a notebook, and it runs from top to bottom on the committed records."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from scipy import stats

from tests.helpers.pages import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "own_analysis.ipynb"
RUN = """
import json, sys
names = {}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
"""


@pytest.mark.exhaustive
def test_notebook_runs_as_it_is(tmp_path):
    assert json.loads(NOTEBOOK.read_text())["nbformat"] == 4
    environment = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path)}
    command = [sys.executable, "-c", RUN, NOTEBOOK.name]
    ran = subprocess.run(command, cwd=NOTEBOOK.parent, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    table = pd.read_parquet(ROOT / "reports/published/prefix_ratio" / "records.parquet").dropna(subset=["train_flops"])
    losses = table.assign(
        loss=[next(one["value"] for one in run if one["metric"] == "content_loss") for run in table["metrics"]]
    ).pivot(index="seed", columns="arm", values="loss")
    found = []
    for arm in losses.columns.drop("uniform"):
        differences = (losses[arm] - losses["uniform"]).dropna()
        if len(differences) > 1:
            low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
            found.append(f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
    assert any(ran.stdout.strip().endswith(one) for one in found), (ran.stdout, found)
