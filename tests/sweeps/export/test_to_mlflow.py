"""Exports to MLflow, against what its client reads."""

from importlib.util import find_spec

import pytest

from aimv2.runs.events import scalars_of
from sweeps.export.exporters import export
from tests.helpers.exported import FINAL, NAME, picture, record, rows
from tests.helpers.programs import skip_without

PROJECT = "a study"


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Return a function that exports a record and returns the client and the active runs."""
    skip_without(find_spec("mlflow"), "no package mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*records):
        assert "mlflow ui" in export(records, "mlflow", PROJECT, tmp_path)
        client = MlflowClient(f"sqlite:///{tmp_path / 'exports' / 'mlflow' / 'mlflow.db'}")
        return client, client.search_runs([client.get_experiment_by_name(PROJECT).experiment_id])

    return run


def history(client, run, tag):
    return [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, tag)]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")  # of its packages
def test_resumed_run_stays_one_run_with_every_step_once(exported, tmp_path):
    _, (first,) = exported(record(3, state="new"))
    assert first.info.status == "KILLED"
    pictures = picture(tmp_path, 4)
    for _ in range(2):
        client, (run,) = exported(record(5, pictures=pictures))
    assert run.info.run_id == first.info.run_id
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "uniform, seed 3"
    assert run.data.tags["aimv2.run"] == NAME
    assert run.data.params == {"seed": "3", "model.image_px": "32"}
    for tag in scalars_of(rows(5)[1]):
        expected = [(row["step"], scalars_of(row)[tag]) for row in rows(5) if tag in scalars_of(row)]
        assert history(client, run, tag) == expected
    for name, value in FINAL.items():
        assert history(client, run, f"final/{name}") == [(4, value)]
    assert [one.path for one in client.list_artifacts(run.info.run_id, "pictures")] == ["pictures/step_00000004.png"]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")
def test_run_that_started_again_with_other_values_is_replaced(exported):
    exported(record(4), record(2, name="v2-ba9876543210"))
    client, runs = exported(record(3, loss=5.0))
    (run,) = [run for run in runs if run.data.tags["aimv2.run"] == NAME]
    assert len(runs) == 2
    assert history(client, run, "train/text_loss") == [(1, 5.0), (2, 2.5)]
