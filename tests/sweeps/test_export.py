"""Final values of a finished sweep, and what W&B has of them."""

import json
import shutil
import sys
from importlib.util import find_spec

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.sweeps.export import Record, export, records
from tests.helpers.finished_sweeps import requested
from tests.helpers.programs import skip_without
from tests.helpers.wandb_files import values_of, wandb_records

NAME = "v2-0123456789ab"
REPORT = {
    "answer": "Causal is worse.",
    "numbers": {
        "comparisons": {"causal": {"mean": 0.45, "low": 0.32, "high": None, "observed": "worse", "n": 8}},
        "verdicts": {"prefix-beats-causal": {"word": "supported", "evidence": ["long"]}},
    },
}


def record(**changes):
    values = {
        "name": NAME, "config": {"seed": 3, "model.image_px": 32},
        "values": {"arm": "uniform", "seed": 3, "final/content_loss": 0.75},
    }  # fmt: skip
    return Record(**(values | changes))


@pytest.mark.exhaustive
def test_records_of_a_sweep_are_its_finished_runs_and_its_report(done, tmp_path):
    cells = read_request(done, "prefix_ratio", STUDIES).cells
    found = records(done, "prefix_ratio", tmp_path)
    assert [(one.name, one.values["arm"]) for one in found] == [(cell.name, cell.arm) for cell in cells]
    result = read_json(done / found[0].name / "result.json")["metrics"]
    metrics = {f"final/{name}": one["value"] for name, one in result.items() if one["value"] is not None}
    assert found[0].values == {"arm": "uniform", "seed": 0} | metrics
    assert found[0].config["budget.samples"] == 64
    (tmp_path / "prefix_ratio").mkdir()
    (tmp_path / "prefix_ratio" / "report.json").write_text(json.dumps(REPORT))
    assert records(done, "prefix_ratio", tmp_path)[-1] == Record(
        name="prefix_ratio",
        values={
            "answer": "Causal is worse.",
            "difference/causal/mean": 0.45,
            "difference/causal/low": 0.32,
            "observed/causal": "worse",
            "verdict/prefix-beats-causal": "supported",
        },
    )


@pytest.mark.exhaustive
def test_the_report_is_that_of_the_launch_and_not_one_that_lies_here(copied, tmp_path, cache_dir, monkeypatch):
    """``reports/`` of the working directory may have the report on the same study in another runs folder."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "reports" / "prefix_ratio" / "report.json"
    here.parent.mkdir(parents=True)
    here.write_text(json.dumps(REPORT))
    requested(copied, cache_dir, f"reports_dir={tmp_path / 'others'}")
    assert "prefix_ratio" not in [one.name for one in records(copied, "prefix_ratio")]
    requested(copied, cache_dir, f"reports_dir={tmp_path / 'reports'}")
    assert records(copied, "prefix_ratio")[-1].name == "prefix_ratio"
    assert len(records(copied, records(copied, "prefix_ratio")[0].name)) == 1, "of one run there is none"


def test_runs_that_are_not_done_are_left_out(copied, tmp_path):
    first, second = records(copied, "prefix_ratio", tmp_path)
    (copied / first.name / "result.json").unlink()
    assert [one.name for one in records(copied, "prefix_ratio", tmp_path)] == [second.name]
    shutil.rmtree(copied / second.name)
    for name in ("prefix_ratio", first.name):
        with pytest.raises(UsageError, match=f"no run of {name} is done yet"):
            records(copied, name, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"), [("v2-", "2 runs in .* begin with 'v2-'"), ("nothing", "sweep 'nothing' was not launched")]
)
def test_name_that_means_no_run_is_refused(done, tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        records(done, name, tmp_path)


def test_a_missing_package_is_one_sentence_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"^export needs a package: .*; install it: pip install '[^\n]*$"):
        export([record()], "", tmp_path)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")  # of its packages
def test_later_export_replaces_the_offline_run_of_the_same_id_and_no_other(tmp_path, monkeypatch):
    skip_without(find_spec("wandb"), "no package wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    export([record(), record(name="v2-ba9876543210")], "a study", tmp_path)
    assert "wandb sync" in export([record(values={"arm": "uniform", "final/content_loss": 0.5})], "a study", tmp_path)
    import wandb

    wandb.teardown()  # returns when its process has written all and has ended
    assert len(list((tmp_path / "exports" / "wandb").glob("offline-run-*"))) == 2
    (folder,) = (tmp_path / "exports" / "wandb").glob(f"offline-run-*-{NAME}")
    found = wandb_records(folder)
    (run,) = [one.run for one in found if one.run.run_id]
    assert (run.run_id, run.project, run.run_group) == (NAME, "a study", "uniform")
    assert values_of(run.config.update)["model.image_px"] == 32
    summary = {}
    for one in found:
        summary |= values_of(one.summary.update)
    assert summary["final/content_loss"] == 0.5
