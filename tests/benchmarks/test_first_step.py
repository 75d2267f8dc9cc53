"""The benchmark of the start of a run."""

import sys
import time

import pytest

from aimv2.base.errors import RunFailedError
from aimv2.base.files import read_json
from benchmarks.first_step import started
from tests.helpers.training import small_run


@pytest.mark.exhaustive
def test_start_is_timed_and_the_run_interrupted_after_its_step(cache_dir, tmp_path):
    began = time.monotonic()
    attempt_seconds, training, step = started([*small_run(cache_dir, "budget.samples=8")], tmp_path / "runs")
    assert 0 < attempt_seconds <= training <= step < time.monotonic() - began
    (attempt,) = tmp_path.glob("runs/*/attempts/*")
    assert (attempt / "interrupted").exists()
    assert read_json(attempt / "manifest.json")["command"][1:3] == ["train", f"data.cache_dir={cache_dir}"]
    assert read_json(attempt / "manifest.json")["python"] == sys.version.split()[0]


def test_command_that_fails_is_shown(tmp_path):
    with pytest.raises(RunFailedError, match="unknown key"):
        started(["no.key=1"], tmp_path)
