"""Runs for MLflow, in an SQLite file unless MLFLOW_TRACKING_URI is set. A run is found again by its tag."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimv2.runs.events import scalars_of, tag_of
from sweeps.export.record import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

TAG = "aimv2.run"
MAX_METRICS, MAX_PARAMS = 1000, 100  # of a request
MAX_VALUE = 6000  # characters of a parameter
STATES = {"done": "FINISHED", "failed": "FAILED", "new": "KILLED", "running": "RUNNING"}  # new: it was interrupted
ALL, RESULT = tag_of("samples"), tag_of("gradient_norm")  # every row has the one, and every step the other


def export(records: Sequence[Record], project: str, folder: Path) -> str:
    """Add the rows that a run lacks there. A run with other values than the record's is replaced."""
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(project)
    place = (folder / "artifacts").absolute().as_uri() if uri.startswith("sqlite:") else None
    experiment = client.create_experiment(project, place) if found is None else found.experiment_id
    for record in records:
        run = _find(client, experiment, record) or _create(client, experiment, record)
        last_step = max(_history(client, run, ALL), default=-1)
        for metrics in _batches(list(_metrics(record, last_step, run.data.metrics)), MAX_METRICS):
            client.log_batch(run.info.run_id, metrics=metrics)
        for step, picture in record.pictures.items():
            if step > last_step:
                client.log_artifact(run.info.run_id, str(picture), "pictures")
        client.update_run(run.info.run_id, status=STATES[record.state])
    return f"{len(records)} runs; look at them with: mlflow ui --backend-store-uri {uri}"


def _find(client: "MlflowClient", experiment: str, record: Record) -> "Run | None":
    """Return the run of a record. Delete it if its steps have other values, as after an edit of the code."""
    here = {row["step"]: row["gradient_norm"] for row in record.rows if "gradient_norm" in row}
    for run in client.search_runs([experiment], filter_string=f"tags.`{TAG}` = '{record.name}'"):
        if _history(client, run, RESULT).items() <= here.items():
            return run
        client.delete_run(run.info.run_id)
    return None


def _create(client: "MlflowClient", experiment: str, record: Record) -> "Run":
    from mlflow.entities import Param

    tags = {TAG: record.name, "arm": record.arm, "seed": str(record.seed)}
    start = round(1000 * record.started)
    run = client.create_run(experiment, start_time=start, tags=tags, run_name=record.title)
    params = [Param(name, str(value)[:MAX_VALUE]) for name, value in record.config.items()]
    for some in _batches(params, MAX_PARAMS):
        client.log_batch(run.info.run_id, params=some)
    return run


def _history(client: "MlflowClient", run: "Run", key: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, key)}


def _metrics(record: Record, last_step: int, there: dict[str, float]) -> "Iterator[Metric]":
    """Yield the values of the steps after the last one that is there, and the final metrics that are not there."""
    from mlflow.entities import Metric

    for row in record.rows:
        if row["step"] > last_step:
            for tag, value in scalars_of(row).items():
                yield Metric(tag, value, round(1000 * record.time_of(row)), row["step"])
    for tag, value in record.final.items():
        if there.get(tag) != value:
            yield Metric(tag, value, round(1000 * record.ended), record.last_step)


def _batches(values: list[Any], size: int) -> Iterator[list[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
