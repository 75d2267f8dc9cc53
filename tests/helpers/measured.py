"""Records of metrics that were measured after the runs, as older versions wrote them."""

import itertools
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from aimv2.ablations.measured import FOLDER, METRICS, MeasuredMetric
from aimv2.base.files import write_json

TIMES = itertools.count(1.0)


def write_measured(runs_dir: Path, study: str, metric: MeasuredMetric, runs: Iterable[str]) -> None:
    """Record that a metric of a study (``Request.folder``) is measured by these runs, as the newest of its name."""
    folder = runs_dir / FOLDER / study / METRICS
    folder.mkdir(parents=True, exist_ok=True)
    values = {"metric": asdict(metric), "runs": sorted(runs), "owner": "me", "time": next(TIMES)}
    write_json(folder / f"{metric.name}_{metric.digest}.json", values)
