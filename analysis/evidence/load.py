"""Runs as tidy tables."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aimv2.ablations.expand import Cell
from aimv2.ablations.measured import MeasuredMetric
from aimv2.analysis.evidence.run_files import check_readable, held_out_rows, in_threads, read_items, scan_rows
from aimv2.analysis.inference.intervals import UNLIMITED, Estimate, arm_mean
from aimv2.analysis.inference.items import ItemMoments, Run
from aimv2.base.errors import REASONS, UsageError
from aimv2.base.files import read_json, read_object
from aimv2.config.run_config import RunConfig
from aimv2.data.provenance import credits_of
from aimv2.runs.attempt import ITEMS
from aimv2.runs.lease import attempt_folder
from aimv2.runs.record import RunFolder, billed

if TYPE_CHECKING:
    import polars as pl

ROWS = "metrics.parquet"
METRIC_COLUMNS = ["arm", "seed", "metric", "value", "unit", "evaluation", "warning"]
MIXTURE_COLUMNS = ["arm", "seed", "source", "samples", "dense", "epochs", *REASONS]
LIMITS = {"accuracy": (0.0, 1.0)}  # of possible values, by unit
BILL_COLUMNS = ["arm", "outcome", "hardware", "attempts", "seconds", "gpu_hours", "core_hours"]
MISSING_COLUMNS = ["arm", "seed", "run", "reason", "has_failed"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The results of a study's runs.

    Attributes:
        runs: a row per finished cell: ``arm``, ``seed``, ``run``, cost and provenance.
        metrics: a row per finished cell and final metric: ``arm``, ``seed``, ``metric``, ``value``, ``unit``,
            ``evaluation``, and ``warning``: what makes the value doubtful, or empty.
        not_applicable: the same for metrics that a cell's objective does not have; ``value`` is empty.
        curves: a row per finished cell and step at which held-out values were measured.
        missing: a row per cell without a result: ``arm``, ``seed``, ``run``, ``reason``, and ``has_failed``: True if
            the run failed, and is not merely unfinished.
        examples: by arm, the example captions of its first finished seed.
        mixture: a row per finished cell that trained and source: ``arm``, ``seed``, ``source``, ``samples``, ``dense``
            (samples with a dense caption), ``epochs``, and the bad samples by reason. Older runs have none.
        credits: the ``sources`` and the labelled ``sets`` of the requested runs, a line of plain text with the licence
            of each, as their descriptions stated it when the runs were loaded.
        bill: what all attempts at the runs took, those without a result too: a row per arm, outcome (``runs.record``)
            and hardware, with hours of GPUs and cores. A run of several arms is in the first one's. Older records have
            none.
        items: what evaluation items contribute to errors.
        rows: a row per finished cell and training step, as a lazy table of polars: what is collected of it is all that
            is read. Committed records have none.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    not_applicable: pd.DataFrame
    curves: pd.DataFrame
    missing: pd.DataFrame
    examples: dict[str, list[dict[str, Any]]]
    bill: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=BILL_COLUMNS))
    items: ItemMoments = field(default_factory=ItemMoments)
    mixture: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=MIXTURE_COLUMNS))
    credits: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"sources": [], "sets": []})
    rows: "pl.LazyFrame | None" = None

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """The number of finished runs by the digest of their code; older runs did not record it."""
        if "code" not in self.runs:
            return {}
        return Counter(self.runs.drop_duplicates("run")["code"].replace("", "not recorded"))

    @property
    def curve(self) -> str:
        """The held-out column with the most points, as objectives differ in theirs; empty if there is none."""
        columns = [name for name in self.curves.columns if name.startswith("held_out_")]
        return max(columns, key=lambda name: self.curves[name].count(), default="")

    def values(self, metric: str) -> pd.DataFrame:
        """Return a metric with a row per seed and a column per arm."""
        if metric not in self._values:
            chosen = self.metrics[self.metrics["metric"] == metric]
            self._values[metric] = chosen.pivot(index="seed", columns="arm", values="value")
        return self._values[metric]

    @cached_property
    def _values(self) -> dict[str, pd.DataFrame]:
        return {}

    def value(self, metric: str, arm: str) -> pd.Series:
        """Return an arm's metric by seed; empty if it has none."""
        return self.values(metric).get(arm, pd.Series(dtype=float))

    def mean(self, metric: str, arm: str) -> Estimate:
        """Return an arm's mean of a metric over seeds, with an interval within the values that its unit allows."""
        return arm_mean(self.value(metric, arm), self.limits(metric))

    def limits(self, metric: str) -> tuple[float, float]:
        """Return the least and the greatest possible value of a metric."""
        return LIMITS.get(self.unit(metric), UNLIMITED)

    def num_failed(self, arm: str) -> int:
        """Return the number of an arm's runs that failed."""
        return self._num_failed[arm]

    @cached_property
    def _num_failed(self) -> Counter[str]:
        return Counter(self.missing["arm"][self.missing["has_failed"].astype(bool)])

    def num_runs(self, arm: str) -> int:
        """Return the number of an arm's runs, with or without a result."""
        return self._num_runs[arm]

    @cached_property
    def _num_runs(self) -> Counter[str]:
        return Counter(self.runs["arm"]) + Counter(self.missing["arm"])

    def dense_share(self, arm: str) -> float | None:
        """Return the share of an arm's training samples that showed a dense caption; None if it is not recorded."""
        own = self.mixture[self.mixture["arm"] == arm]
        return float(own["dense"].sum() / own["samples"].sum()) if own["samples"].sum() else None

    @staticmethod
    def runs_of(table: pd.DataFrame) -> list[Run]:
        """Return arm and seed of each row."""
        return list(zip(table["arm"], table["seed"].astype(int), strict=True)) if len(table) else []

    def answered(self, metric: str) -> set[Run]:
        """Return arm and seed of the finished runs that have a metric, or cannot have it."""
        tables = (table[table["metric"] == metric] for table in (self.metrics, self.not_applicable))
        return {run for table in tables for run in self.runs_of(table)}

    def why_absent(self, metric: str) -> str:
        """Return why no finished run has a metric, which data or objective cannot have; empty if one has it."""
        if len(self.values(metric)):
            return ""
        return str(next(iter(self.not_applicable.loc[self.not_applicable["metric"] == metric, "evaluation"]), ""))

    def unit(self, metric: str) -> str:
        """Return the metric's unit; empty if it was not measured."""
        return self._first(metric, "unit")

    def evaluation(self, metric: str) -> str:
        """Return how the metric was measured; empty if it was not."""
        return self._first(metric, "evaluation")

    def _first(self, metric: str, column: str) -> str:
        return str(self._firsts[metric][column]) if metric in self._firsts else ""

    @cached_property
    def _firsts(self) -> dict[Any, dict[Any, Any]]:
        """The first row of each metric."""
        return self.metrics.drop_duplicates("metric").set_index("metric").to_dict("index")

    @property
    def results(self) -> pd.DataFrame:
        """A row per finished cell with its final metrics as columns, named with their units."""
        if self.metrics.empty:
            return self.runs
        named = self.metrics.assign(column=self.metrics["metric"] + " [" + self.metrics["unit"] + "]")
        wide = named.pivot(index=["arm", "seed"], columns="column", values="value")
        return self.runs.merge(wide[list(dict.fromkeys(named["column"]))], on=["arm", "seed"])


class _Finished(NamedTuple):
    """What a finished run adds to the tables."""

    run: dict[str, Any]
    metrics: list[tuple[Any, ...]]
    mixture: list[dict[str, Any]]
    folder: Path


class _Alone(NamedTuple):
    """A metric that a run of its own measured on a finished one."""

    row: tuple[Any, ...]
    folder: Path


def load(cells: Sequence[Cell], runs_dir: Path, metrics: Sequence[MeasuredMetric] = ()) -> Evidence:
    """Read the run of every cell. One that has not finished, or a file of which cannot be read, is among the missing.

    Args:
        metrics: those that runs of their own measure of finished ones. A run that has one itself keeps its value, if
            it is of the same plug-in.

    Raises:
        UsageError: a result has another layout, or a table is broken that looked whole.
    """
    found = in_threads(partial(_read, runs_dir), cells)
    done = {(cell.arm, cell.seed): one for cell, one in zip(cells, found, strict=True) if isinstance(one, _Finished)}
    runs = [one.run for one in done.values()]
    missing = [one for one in found if not isinstance(one, _Finished)]
    cell_of = {(cell.arm, cell.seed): cell for cell in cells if (cell.arm, cell.seed) in done}
    later = {metric.name: _measured_later(metric, cell_of, runs_dir) for metric in metrics}
    by_name = {metric.name: metric for metric in metrics}
    own_rows = [
        row
        for run, one in done.items()
        for row in one.metrics
        if (metric := by_name.get(row[2])) is None or metric.is_measured_by(cell_of[run])
    ]
    later_rows = [one.row for measured in later.values() for one in measured.values()]
    table = pd.DataFrame([*own_rows, *later_rows], columns=METRIC_COLUMNS)
    is_applicable = table["value"].notna()
    firsts = {arm: one.folder for (arm, _), one in reversed(done.items())}
    item_files = _item_files(done)
    rows = scan_rows({run: one.folder / ROWS for run, one in done.items()})
    return Evidence(
        runs=pd.DataFrame(runs, columns=None if runs else ["arm", "seed", "run"]),
        metrics=table[is_applicable].astype({"value": float}).reset_index(drop=True),
        not_applicable=table[~is_applicable].astype({"value": float}).reset_index(drop=True),
        curves=held_out_rows(rows),
        missing=pd.DataFrame(missing, columns=MISSING_COLUMNS),
        examples={
            arm: read_json(path)
            for arm in dict.fromkeys(arm for arm, _ in done)
            if (path := firsts[arm] / "examples.json").exists()
        },
        bill=_bill([*cells, *(own for metric in metrics for own in metric.cells(cells))], runs_dir),
        items=ItemMoments(lambda metric: read_items(item_files | _item_files(later.get(metric, {})), metric)),
        mixture=pd.DataFrame([row for one in done.values() for row in one.mixture], columns=MIXTURE_COLUMNS),
        credits=_credits(cells),
        rows=rows,
    )


def _bill(cells: Sequence[Cell], runs_dir: Path) -> pd.DataFrame:
    """Return the bill of these runs, each once, summed over runs and attempts."""
    firsts = list({cell.name: cell for cell in reversed(cells)}.values())[::-1]
    found = in_threads(lambda cell: list(billed(RunFolder(runs_dir, cell.name).path, cell.config)), firsts)
    rows = [
        (cell.arm, one.outcome, one.hardware, 1, one.seconds, one.hours.gpu, one.hours.core)
        for cell, attempts in zip(firsts, found, strict=True)
        for one in attempts
    ]
    table = pd.DataFrame(rows, columns=BILL_COLUMNS)
    return table.groupby(["arm", "outcome", "hardware"], sort=False, as_index=False).sum()[BILL_COLUMNS]


def _read(runs_dir: Path, cell: Cell) -> "_Finished | dict[str, Any]":
    """Return what a finished run adds, or the row of a missing one."""
    run, where = RunFolder(runs_dir, cell.name), {"arm": cell.arm, "seed": cell.seed}
    if not run.is_done:
        return {**where, "run": cell.name, "reason": _reason(run), "has_failed": run.state() == "failed"}
    if problem := run.problem():
        return {**where, "run": cell.name, "reason": problem, "has_failed": True}
    result, mixture = run.result(), list[dict[str, Any]]()
    folder = attempt_folder(run.path, result["attempt"])
    try:
        manifest = read_object(folder / "manifest.json")
        check_readable([folder / ROWS, *folder.glob(ITEMS)])
    except UsageError as error:
        return {**where, "run": cell.name, "reason": str(error), "has_failed": True}
    if cell.config.num_samples:
        for source, shown in result.get("mixture", {}).items():
            counts = {name: shown[name] for name in ("samples", "dense", "epochs")} | dict.fromkeys(REASONS, 0)
            mixture.append({**where, "source": source, **counts, **shown["bad"]})
    return _Finished(
        {
            **where,
            "run": cell.name,
            "samples": cell.config.num_samples,
            "train_flops": result["train_flops"],
            "train_seconds": result["train_seconds"],
            "train_cpu_seconds": result["train_cpu_seconds"],
            "seconds": result["seconds"],
            "cpu_seconds": result["cpu_seconds"],
            "precision": cell.config.precision,
            "threads": manifest["threads"],
            "hardware": _hardware(result, manifest),
            "code": manifest.get("code", ""),
            "commit": _both(manifest, lambda origin: origin["commit"]),
            "torch": _both(manifest, lambda origin: origin["versions"].get("torch", "")),
            **_of_pairs(manifest),
        },
        # The texts are in memory once, however many runs have them.
        [
            (
                *(cell.arm, cell.seed, intern(name), one["value"]),
                *(intern(one["unit"]), intern(one["evaluation"]), intern(one["warning"])),
            )
            for name, one in result["metrics"].items()
        ],
        mixture,
        folder,
    )


def _of_pairs(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what only runs on pairs record: the sizes of their networks and data."""
    if "parameters" not in manifest:
        return {}
    encoder = manifest["parameters"]["encoder"]
    return {
        "encoder_parameters": encoder,
        "other_parameters": sum(manifest["parameters"].values()) - encoder,
        "train_pairs": manifest["train_pairs"],
        "held_out_pairs": manifest["held_out_pairs"],
    }


def _credits(cells: Sequence[Cell]) -> Mapping[str, Sequence[str]]:
    return credits_of(cell.config for cell in cells if isinstance(cell.config, RunConfig))


def _measured_later(metric: MeasuredMetric, cell_of: Mapping[Run, Cell], runs_dir: Path) -> dict[Run, _Alone]:
    """Return a metric of finished runs that other runs measure, without those that have no result that can be read."""

    def read(cell: Cell) -> _Alone | None:
        found = [RunFolder(runs_dir, one.name) for one in metric.cells([cell])]
        if not found or not found[0].is_done or found[0].problem():
            return None
        result = found[0].result()
        one = result["metrics"][metric.name]
        texts = (intern(one[key]) for key in ("unit", "evaluation", "warning"))
        row = (cell.arm, cell.seed, intern(metric.name), one["value"], *texts)
        return _Alone(row, attempt_folder(found[0].path, result["attempt"]))

    measured = in_threads(read, list(cell_of.values()))
    return {run: one for run, one in zip(cell_of, measured, strict=True) if one is not None}


def _item_files(found: "Mapping[Run, _Finished | _Alone]") -> dict[Run, Path]:
    """Return where items of metrics are, by arm and seed; results without items have no such file."""
    return {run: path for run, one in found.items() if (path := one.folder / ITEMS).exists()}


def _hardware(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the hardware of all attempts that the result rests on; older results do not list them."""
    attempts = result.get("attempts") or [manifest]
    return "; ".join(dict.fromkeys(attempt["hardware"] or "unknown" for attempt in attempts))


def _both(manifest: Mapping[str, Any], value: Callable[[Mapping[str, Any]], str]) -> str:
    """Return a value of the training and of the evaluation, which differ if a run reuses the training of another."""
    return "; ".join(dict.fromkeys([value(manifest.get("trained") or manifest), value(manifest)]))


def _reason(run: RunFolder) -> str:
    if run.state() == "running":
        return "still running"
    failure = run.failure()
    return (run.obstacle() or "not run yet") if failure is None else f"{failure.cause}: {failure.message}"
