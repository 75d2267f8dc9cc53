"""Runs as tidy tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.expand import Cell
from ablations.expectations import STEP_TIME
from aimv2.evaluation.metrics import Metric, unit_of
from aimv2.runs.files import read_json
from aimv2.runs.record import RunFolder

NO_STEP_TIME = Metric(None, unit_of(STEP_TIME), "not measured: a device or other ranks did part of the work")
METRIC_COLUMNS = ["arm", "seed", "metric", "value", "unit", "evaluation"]


@dataclass(frozen=True)
class Evidence:
    """The results of a study's runs.

    Attributes:
        runs: a row per finished cell: ``arm``, ``seed``, ``run``, cost and provenance.
        metrics: a row per finished cell and final metric: ``arm``, ``seed``, ``metric``, ``value``, ``unit``,
            ``evaluation``.
        not_applicable: the same for metrics that a cell's objective does not have; ``value`` is empty.
        curves: a row per finished cell and step.
        missing: a row per unfinished cell: ``arm``, ``seed``, ``run``, ``reason``.
        examples: by arm, the example captions of its first finished seed.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    not_applicable: pd.DataFrame
    curves: pd.DataFrame
    missing: pd.DataFrame
    examples: dict[str, list[dict[str, Any]]]

    @property
    def curve(self) -> str:
        """The held-out column with the most points, as objectives differ in theirs; empty if there is none."""
        columns = [name for name in self.curves.columns if name.startswith("held_out_")]
        return max(columns, key=lambda name: self.curves[name].count(), default="")

    def values(self, metric: str) -> pd.DataFrame:
        """Return a metric, or the CPU time of training per sample, with a row per seed and a column per arm."""
        chosen = self.metrics[self.metrics["metric"] == metric]
        if metric == STEP_TIME and len(self.runs):
            trained = self.runs[(self.runs["samples"] > 0) & self.runs["train_cpu_seconds"].notna()]
            chosen = trained.assign(value=1000 * trained["train_cpu_seconds"].astype(float) / trained["samples"])
        return chosen.pivot(index="seed", columns="arm", values="value")

    def value(self, metric: str, arm: str) -> pd.Series:
        """Return an arm's metric by seed; empty if it has none."""
        return self.values(metric).get(arm, pd.Series(dtype=float))

    def unit(self, metric: str) -> str:
        """Return the metric's unit; empty if it was not measured."""
        return self._first(metric, "unit")

    def evaluation(self, metric: str) -> str:
        """Return how the metric was measured; empty if it was not."""
        return self._first(metric, "evaluation")

    def _first(self, metric: str, column: str) -> str:
        return str(next(iter(self.metrics.loc[self.metrics["metric"] == metric, column]), ""))

    @property
    def results(self) -> pd.DataFrame:
        """A row per finished cell with its final metrics as columns, named with their units."""
        if self.metrics.empty:
            return self.runs
        named = self.metrics.assign(column=self.metrics["metric"] + " [" + self.metrics["unit"] + "]")
        wide = named.pivot(index=["arm", "seed"], columns="column", values="value")
        return self.runs.merge(wide[list(dict.fromkeys(named["column"]))], on=["arm", "seed"])


def load(cells: Sequence[Cell], runs_dir: Path) -> Evidence:
    """Read the run of every cell, finished or not."""
    runs, curves, missing, metrics = [], [], [], []
    examples: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        run = RunFolder(runs_dir, cell.name)
        where = {"arm": cell.arm, "seed": cell.seed}
        if not run.is_done:
            missing.append({**where, "run": cell.name, "reason": _reason(run)})
            continue
        result, manifest = run.result(), read_json(run.file("manifest.json"))
        runs.append(
            {
                **where,
                "run": cell.name,
                "samples": cell.config.budget.samples,
                "train_flops": result["train_flops"],
                "train_seconds": result["train_seconds"],
                "train_cpu_seconds": result["train_cpu_seconds"],
                "seconds": result["seconds"],
                "cpu_seconds": result["cpu_seconds"],
                "precision": cell.config.precision,
                "threads": manifest["threads"],
                "hardware": manifest["hardware"],
                "commit": manifest["commit"],
                "torch": manifest["versions"]["torch"],
                "encoder_parameters": manifest["parameters"]["encoder"],
                "other_parameters": sum(manifest["parameters"].values()) - manifest["parameters"]["encoder"],
                "train_pairs": manifest["train_pairs"],
                "held_out_pairs": manifest["held_out_pairs"],
            }
        )
        metrics += [{**where, "metric": name, **metric} for name, metric in result["metrics"].items()]
        if result["train_cpu_seconds"] is None:
            metrics.append({**where, "metric": STEP_TIME, **asdict(NO_STEP_TIME)})
        curves.append(run.metrics().assign(arm=cell.arm, seed=cell.seed))
        if cell.arm not in examples:
            examples[cell.arm] = read_json(run.file("examples.json"))
    table = pd.DataFrame(metrics, columns=METRIC_COLUMNS)
    is_applicable = table["value"].notna()
    return Evidence(
        runs=pd.DataFrame(runs, columns=None if runs else ["arm", "seed", "run"]),
        metrics=table[is_applicable].astype({"value": float}),
        not_applicable=table[~is_applicable],
        curves=pd.concat([c for c in curves if len(c)], ignore_index=True) if any(map(len, curves)) else pd.DataFrame(),
        missing=pd.DataFrame(missing, columns=["arm", "seed", "run", "reason"]),
        examples=examples,
    )


def _reason(run: RunFolder) -> str:
    if run.state() == "running":
        return "still running"
    failure = run.failure()
    return "not run yet" if failure is None else f"{failure.cause}: {failure.message}"
