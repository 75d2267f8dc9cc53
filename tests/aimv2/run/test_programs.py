"""What is done with a run: each function reaches AIMv2's, and takes another model for one that needs nothing."""

import subprocess
import sys
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.request import resolve
from aimv2.run.programs import check_finished, execute, missing_data, note_on_data, prepare, resolved
from aimv2.runs.record import RunFolder
from tests.helpers.other_model import Mean


def test_another_model_has_its_values_and_no_data_of_ours():
    run = Mean()
    assert resolved(run, "cpu") is run
    assert (missing_data(run), note_on_data(run)) == ("", "")
    prepare([run])
    check_finished([run])


def test_a_run_of_aimv2_is_resolved_for_the_machine_of_its_workers(tiny):
    auto = replace(tiny, device="auto", precision="auto")
    assert resolved(auto, "cpu") == resolve.resolve(auto, available="cpu")
    with pytest.raises(UsageError, match="device=cuda"):
        resolved(replace(tiny, device="cuda"), "cpu")


def test_both_are_executed(tiny, tmp_path):
    for run in (Mean(), tiny.untrained()):
        folder = RunFolder(tmp_path, run.name)
        assert execute(run, folder.acquire(run)) is None
        assert folder.is_done


def test_nothing_loads_torch_before_a_run_is_executed():
    code = "import sys, aimv2.run.programs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
