"""Exports to trackio, against what it reads. Not in CI: trackio 0.43 refuses the lock's Pillow."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
from pathlib import Path
from aimv2.runs.events import scalars_of
from sweeps.export.exporters import export
from tests.helpers.exported import FINAL, NAME, record, rows
from trackio.sqlite_storage import SQLiteStorage

for one in (record(3, state="running"), record(5), record(5), record(2, name="v2-ba9876543210")):
    assert "trackio show" in export([one], "trackio", "a-study", Path("."))
assert sorted(SQLiteStorage.get_runs("a-study")) == sorted([NAME, "v2-ba9876543210"])
*steps, final = SQLiteStorage.get_logs("a-study", NAME)
for row, found in zip(rows(5), steps, strict=True):
    assert found["step"] == row["step"]
    assert scalars_of(row).items() <= found.items(), found
assert {f"final/{name}": value for name, value in FINAL.items()}.items() <= final.items()
assert SQLiteStorage.get_run_config("a-study", NAME)["model.image_px"] == 32
"""


@pytest.mark.skipif(find_spec("trackio") is None, reason="no package trackio")
def test_later_export_replaces_the_run(tmp_path):
    """In a process of its own, because trackio reads TRACKIO_DIR when it is imported."""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
