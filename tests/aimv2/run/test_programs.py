"""What is done with a run: each function reaches AIMv2's, and takes another model for one that needs nothing."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.base.interrupt import Interrupts
from aimv2.config.program import Program
from aimv2.definitions.metrics import Definition
from aimv2.definitions.programs import add_program
from aimv2.request import resolve
from aimv2.run.programs import Recorder, check_finished, execute, missing_data, note_on_data, prepare, resolved
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder
from tests.helpers.marks import exhaustive
from tests.helpers.other_model import ITEMS, Mean


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


@dataclass(frozen=True, kw_only=True)
class Wrong(Program):
    returns: str = "nothing"

    def measure(self, run):
        if self.returns == "raises":
            raise ZeroDivisionError("no data")
        found = {"nothing": {}, "nan": {"wrong_score": float("nan")}, "text": {"wrong_score": "high"}, "number": 0.5}
        return found[self.returns]


add_program("wrong", Wrong, Definition("wrong_score", "score", False))


def attempted(program, folder, **options):
    run = RunFolder(folder, program.name)
    return run, execute(program, run.acquire(program), **options)


def test_a_result_has_the_metrics_with_their_items(tmp_path):
    run, failure = attempted(Mean(), tmp_path)
    assert failure is None
    result, rows = run.result(), run.metrics()
    assert set(result["metrics"]) == {"mean_error", "largest_error"}
    assert rows["step"].tolist() == [1, 2, 3, 4]
    assert rows["train_flops"].iloc[-1] == result["train_flops"] == 2 * ITEMS * 160
    assert result["metrics"]["mean_error"]["value"] == pytest.approx(rows["held_out_loss"].iloc[-1], rel=1e-6)
    assert 0 < result["metrics"]["mean_error"]["value"] < 0.05 < result["metrics"]["largest_error"]["value"] * 10
    assert not list(run.path.rglob("state.safetensors")), "a finished run needs none"


@pytest.mark.parametrize(
    ("returns", "cause", "message"),
    [
        ("nothing", "bug", r"measure\(\) returned nothing, not wrong_score"),
        exhaustive("number", "bug", r"measure\(\) returned 0.5, not a dict with wrong_score"),
        ("raises", "bug", "ZeroDivisionError: no data"),
        exhaustive("nan", "not finite", "metric wrong_score is nan"),
        exhaustive("text", "bug", "metric wrong_score returned 'high'"),
    ],
)
def test_a_wrong_measure_is_a_failed_run_with_its_cause(tmp_path, returns, cause, message):
    run, failure = attempted(Wrong(returns=returns), tmp_path)
    assert not run.is_done
    assert run.failure() == failure
    assert failure.cause == cause
    assert re.search(message, failure.message)


@pytest.mark.exhaustive
def test_an_interrupted_run_resumes_from_what_it_saved(tmp_path):
    whole, _ = attempted(Mean(), tmp_path / "whole")
    interrupts, rows = Interrupts(), []

    def stop_after_two(new):
        rows.extend(new)
        if len(rows) == 2:
            interrupts.also_when(lambda: True)

    with pytest.raises(KeyboardInterrupt):
        attempted(Mean(), tmp_path, on_rows=stop_after_two, interrupts=interrupts)
    run, failure = attempted(Mean(), tmp_path, on_rows=rows.extend)
    assert failure is None
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert run.metrics()["held_out_loss"].tolist() == whole.metrics()["held_out_loss"].tolist()
    assert run.result()["metrics"] == whole.result()["metrics"]
    assert run.result()["attempts"][0]["from_step"] == 2


def test_the_speed_of_a_resumed_run_counts_no_samples_of_before(tmp_path):
    run, times, rows = RunFolder(tmp_path, Mean().name), iter([10.0, 12.0]), []
    with run.acquire(Mean()) as attempt:
        attempt.write_manifest({"code": digest()})
        first = Recorder(attempt, Mean(), lambda rows: None, Interrupts())
        first.log(step=1, samples=40)
        first.save(1, {"total": np.zeros(2)})
    with run.acquire(Mean()) as attempt:
        resumed = Recorder(attempt, Mean(), rows.extend, Interrupts(), lambda: next(times))
        resumed.log(step=2, samples=80)
    assert rows[0]["images_per_second"] == 20


@pytest.mark.exhaustive
def test_a_broken_state_is_not_resumed(tmp_path):
    program = replace(Mean(), steps=2)
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        attempted(program, tmp_path, on_rows=lambda rows: interrupts.also_when(lambda: True), interrupts=interrupts)
    (state,) = tmp_path.rglob("state.safetensors")
    state.write_bytes(b"broken")
    rows = []
    _, failure = attempted(program, tmp_path, on_rows=rows.extend)
    assert failure is None
    assert [row["step"] for row in rows] == [1, 2]
    assert np.isfinite(rows[-1]["held_out_loss"])
