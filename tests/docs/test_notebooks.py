"""The notebook is a notebook, and its code runs from top to bottom on records that a test makes."""

import json
import subprocess
import sys

from ablations.catalogue import STUDIES
from ablations.expand import expand
from ablations.request import Request
from analysis.inference.intervals import mean_interval
from analysis.inference.looks import Look
from analysis.load import load
from analysis.records import Records, pack
from tests.helpers.evidence import write_run
from tests.helpers.pages import ROOT
from tests.helpers.specimen import STUDY

NOTEBOOK = ROOT / "docs" / "notebooks" / "own_analysis.ipynb"


def test_notebook_runs_on_records(tiny, tmp_path):
    cells = expand(STUDY, tiny, arms=["uniform", "causal"], seeds=range(3))
    for number, cell in enumerate(cells):
        write_run(cell, tmp_path / "runs", 3 + number**2 / 100)
    evidence = load(cells, tmp_path / "runs")
    path = tmp_path / "records.parquet"
    path.write_bytes(pack(Records(Request(study=STUDY, cells=cells, arguments=()), evidence, Look(1))))
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    first, *others = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert first.startswith("RECORDS = ")
    assert STUDIES[STUDY.slug].folder in first
    (tmp_path / "notebook.py").write_text("\n".join([f"RECORDS = {str(path)!r}", *others]))
    environment = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    values = evidence.values("content_loss")
    assert mean_interval(values["causal"] - values["uniform"]).text() in ran.stdout
