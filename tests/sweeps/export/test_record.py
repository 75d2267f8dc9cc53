"""Records of a finished sweep, and of a run that resumed."""

import json
import os
import shutil

import pytest

from ablations.catalogue import STUDIES
from ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.runs.rows import read_rows
from sweeps.export.record import records


def test_records_of_a_sweep_have_its_runs(done):
    cells = read_request(done, "prefix_ratio", STUDIES).cells
    found = records(done, "prefix_ratio")
    assert [(one.name, one.arm, one.seed) for one in found] == [(cell.name, cell.arm, cell.seed) for cell in cells]
    trained = found[0]
    folder = done / trained.name / "attempts" / "0001"
    assert trained.state == "done"
    assert trained.title == f"{trained.arm}, seed {trained.seed}"
    assert trained.rows == read_rows(folder)
    assert trained.config["budget.samples"] == 64
    result = read_json(done / trained.name / "result.json")["metrics"]
    assert trained.final == {f"final/{name}": one["value"] for name, one in result.items() if one["value"] is not None}
    assert set(trained.pictures) == {0, trained.last_step}
    assert trained.started <= os.stat(folder / "result.json").st_mtime
    assert found[1].rows == [], "an untrained encoder has no steps"


def test_times_of_a_resumed_run_count_from_its_beginning(copied):
    """Its attempt began at second 50, with rows of the 20 seconds before."""
    name = records(copied, "prefix_ratio")[0].name
    folder = copied / name / "attempts" / "0001"
    rows = read_rows(folder)
    rows[1]["seconds"] = 20.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_json(folder / "manifest.json")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"resumed": {"attempt": 0, "step": 1}}))
    os.utime(folder / "holder.json", (50, 50))
    (found,) = records(copied, name)
    assert found.started == 30.0
    assert found.time_of(rows[1]) == 50.0


def test_runs_that_were_not_started_are_left_out(copied):
    first, second = records(copied, "prefix_ratio")
    shutil.rmtree(copied / first.name)
    assert [one.name for one in records(copied, "prefix_ratio")] == [second.name]
    shutil.rmtree(copied / second.name)
    with pytest.raises(UsageError, match="no run of prefix_ratio was started yet"):
        records(copied, "prefix_ratio")


@pytest.mark.parametrize(
    ("name", "message"), [("v2-", "2 runs in .* begin with 'v2-'"), ("nothing", "sweep 'nothing' was not launched")]
)
def test_name_that_means_no_run_is_refused(done, name, message):
    with pytest.raises(UsageError, match=message):
        records(done, name)
