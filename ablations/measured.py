"""Metrics of plug-ins that older versions measured on the finished runs of a study, recorded beside its requests.

Each has a run of its own for each finished run, which is no cell of the study. Published records have such metrics.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError
from aimv2.base.files import read_object
from aimv2.base.plugins import AT
from aimv2.definitions.metrics import METRICS as PLUGIN_METRICS
from aimv2.definitions.metrics import Definition, know

FOLDER = "studies"  # of requests
METRICS = "metrics"  # in that of a study's requests


@dataclass(frozen=True, kw_only=True)
class MeasuredMetric:
    """A metric of a plug-in that was measured on finished runs."""

    name: str
    unit: str
    lower_is_better: bool
    plugin: str  # name and digest (``Plugin.id``)
    digest: str  # of the content of the plug-in and of the code that measured it
    typed: str  # as the command line named it, such as ``my.py:cka``

    def cells(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the runs that measure the metric of these cells' runs; programs that keep no weights have none."""
        runs = ((cell, cell.config.measuring(self.name, self.digest)) for cell in cells)
        return [
            Cell(arm=f"{cell.arm}: {self.name}", seed=cell.seed, config=run) for cell, run in runs if run is not None
        ]

    def is_measured_by(self, cell: Cell) -> bool:
        """True if the run of a cell measures the metric itself."""
        return cell.config.plugins.get(f"evaluation.metrics.{self.name}") == self.plugin

    @classmethod
    def from_json(cls, recorded: Any) -> "MeasuredMetric":
        """Return a recorded metric, which is known from now on."""
        metric = cls(**recorded)
        metric.know()
        return metric

    def know(self) -> None:
        """Let the metric be known by its unit and direction, unless a version of its plug-in is loaded."""
        plugin = PLUGIN_METRICS.plugin_of(self.name)
        if plugin is None or plugin.name != self.plugin.rpartition(AT)[0]:  # else it is a version of this one
            know(Definition(self.name, self.unit, self.lower_is_better))


def read_measured(runs_dir: Path, study: str) -> tuple[MeasuredMetric, ...]:
    """Return the metrics that were measured on a study, the newest of each name, and let them be known."""
    newest: dict[str, MeasuredMetric] = {}
    for record in sorted(_records(runs_dir, study), key=lambda one: one["time"]):
        with contextlib.suppress(TypeError):  # of another version
            found = MeasuredMetric(**record["metric"])
            newest[found.name] = found
    for metric in newest.values():  # an earlier one may have had its direction corrected
        metric.know()
    return tuple(newest[name] for name in sorted(newest))


def measuring_runs(runs_dir: Path, study: str) -> set[str]:
    """Return the names of all runs that were to measure a metric of this study."""
    return {str(run) for record in _records(runs_dir, study) for run in record["runs"]}


def _records(runs_dir: Path, study: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a study that can be read."""
    for path in (runs_dir / FOLDER / study / METRICS).glob("*.json"):
        with contextlib.suppress(UsageError):
            record = read_object(path)
            if {"metric", "runs", "time"} <= record.keys():
                yield record
