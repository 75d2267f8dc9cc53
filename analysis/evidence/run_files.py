"""The results of runs, read from their folders."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aimv2.ablations.expand import Cell
from aimv2.analysis.evidence.tables import (
    BILL_COLUMNS,
    HELD_OUT,
    METRIC_COLUMNS,
    MISSING_COLUMNS,
    MIXTURE_COLUMNS,
    Evidence,
)
from aimv2.analysis.inference.items import ItemMoments, Parts, Run, influence
from aimv2.base.errors import REASONS, UsageError
from aimv2.base.files import read_json, read_object
from aimv2.base.processes import in_threads
from aimv2.config.run_config import RunConfig
from aimv2.data.provenance import credits_of
from aimv2.definitions.metrics import is_retired
from aimv2.runs.attempt import ITEMS
from aimv2.runs.lease import attempt_folder
from aimv2.runs.record import RunFolder, billed

ROWS = "metrics.parquet"
CURVE_COLUMNS = ("step", "samples", "train_flops", "seconds")
OF_RESULT = ("train_flops", "train_seconds", "train_cpu_seconds", "seconds", "cpu_seconds")  # keys of a run's result
THREADS = 16  # they wait for files, which takes longest on a shared file system


class _Finished(NamedTuple):
    """What a finished run adds to the tables."""

    run: dict[str, Any]
    metrics: list[tuple[Any, ...]]
    mixture: list[dict[str, Any]]
    curve: pd.DataFrame
    folder: Path


def load(cells: Sequence[Cell], runs_dir: Path) -> Evidence:
    """Read the run of every cell. One that has not finished, or a file of which cannot be read, is among the missing; a
    UsageError if a result has another layout, or a table is broken that looked whole."""
    results = list(in_threads(partial(_read, runs_dir), cells, THREADS))
    missing = [row for row in results if not isinstance(row, _Finished)]
    names = [(cell.arm, cell.seed) for cell in cells]
    done = {run: row for run, row in zip(names, results, strict=True) if isinstance(row, _Finished)}
    table = pd.DataFrame([row for run in done.values() for row in run.metrics], columns=METRIC_COLUMNS)
    is_applicable = table["value"].notna()
    item_files = {run: path for run, finished in done.items() if (path := finished.folder / ITEMS).exists()}
    runs = [run.run for run in done.values()]
    return Evidence(
        runs=pd.DataFrame(runs, columns=None if runs else ["arm", "seed", "run"]),
        metrics=table[is_applicable].astype({"value": float}).reset_index(drop=True),
        not_applicable=table[~is_applicable].astype({"value": float}).reset_index(drop=True),
        curves=_curves({run: finished.curve for run, finished in done.items()}),
        missing=pd.DataFrame(missing, columns=MISSING_COLUMNS),
        examples=_examples(done),
        bill=_bill(cells, runs_dir),
        items=ItemMoments(lambda metric: _items(item_files, metric)),
        mixture=pd.DataFrame([row for run in done.values() for row in run.mixture], columns=MIXTURE_COLUMNS),
        credits=credits_of(cell.config for cell in cells if isinstance(cell.config, RunConfig)),
    )


def _read(runs_dir: Path, cell: Cell) -> "_Finished | dict[str, Any]":
    """Return what a finished run adds, or the row of a missing one."""
    run, where = RunFolder(runs_dir, cell.name), {"arm": cell.arm, "seed": cell.seed}
    if not run.is_done:
        return {**where, "run": cell.name, "reason": _reason(run), "has_failed": run.state() == "failed"}
    if problem := run.problem():
        return {**where, "run": cell.name, "reason": problem, "has_failed": True}
    result = run.result()
    folder = attempt_folder(run.path, result["attempt"])
    try:
        manifest, curve = read_object(folder / "manifest.json"), _curve(folder / ROWS)
        for items in folder.glob(ITEMS):
            _parsed(items, pq.read_metadata)
    except UsageError as error:
        return {**where, "run": cell.name, "reason": str(error), "has_failed": True}
    row = {
        **where,
        "run": cell.name,
        "samples": cell.config.num_samples,
        **{name: result[name] for name in OF_RESULT},
        "precision": cell.config.precision,
        "threads": manifest["threads"],
        "hardware": _hardware(result, manifest),
        "began": (manifest.get("trained") or manifest).get("began") or "",
        "code": manifest.get("code", ""),
        "commit": _both(manifest, lambda origin: origin["commit"]),
        "torch": _both(manifest, lambda origin: origin["versions"].get("torch", "")),
        **_of_pairs(manifest),
    }
    metrics = [_metric_row(cell, name, metric) for name, metric in result["metrics"].items() if not is_retired(name)]
    shown_by_source = result.get("mixture", {}) if cell.config.num_samples else {}
    mixture = [
        {**where, "source": source, **dict.fromkeys(REASONS, 0), **shown, **shown["bad"]}
        for source, shown in shown_by_source.items()
    ]
    return _Finished(row, metrics, mixture, curve, folder)


def _metric_row(cell: Cell, name: str, metric: Mapping[str, Any]) -> tuple[Any, ...]:
    texts = (intern(metric[key]) for key in ("unit", "evaluation", "warning"))  # in memory once for all runs
    return (cell.arm, cell.seed, intern(name), metric["value"], *texts)


def _reason(run: RunFolder) -> str:
    if run.state() == "running":
        return "still running"
    failure = run.failure()
    return (run.obstacle() or "not run yet") if failure is None else f"{failure.cause}: {failure.message}"


def _hardware(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Return the hardware of all attempts that the result rests on; older results do not list them."""
    attempts = result.get("attempts") or [manifest]
    return "; ".join(dict.fromkeys(attempt["hardware"] or "unknown" for attempt in attempts))


def _both(manifest: Mapping[str, Any], value: Callable[[Mapping[str, Any]], str]) -> str:
    """Return a value of the training and of the evaluation, which differ if a run reuses the training of another."""
    return "; ".join(dict.fromkeys([value(manifest.get("trained") or manifest), value(manifest)]))


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


def _parsed(path: Path, read: Callable[[Path], Any]) -> Any:
    """Return what ``read`` returns of a Parquet file of a run; a broken one is named in an error."""
    try:
        return read(path)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read; delete the run's folder to repeat the run") from error


def _curve(path: Path) -> pd.DataFrame:
    """Return the steps of a run at which held-out values were measured. Runs differ in their columns."""

    def read(path: Path) -> pd.DataFrame:
        with pq.ParquetFile(path) as file:
            held_out = [name for name in file.schema_arrow.names if name.startswith(HELD_OUT)]
            rows: pd.DataFrame = file.read([*CURVE_COLUMNS, *held_out]).to_pandas()
        return rows.dropna(subset=held_out, how="all").astype(dict.fromkeys(held_out, float))

    curve: pd.DataFrame = _parsed(path, read)
    return curve


def _curves(tables: Mapping[Run, pd.DataFrame]) -> pd.DataFrame:
    measured = {run: table for run, table in tables.items() if len(table)}
    if not measured:
        return pd.DataFrame()
    return pd.concat(measured, names=["arm", "seed", ""]).reset_index(level=["arm", "seed"]).reset_index(drop=True)


def _items(files: Mapping[Run, Path], metric: str) -> Parts:
    """Return each evaluation item's part in a metric, by run; runs without the metric are left out."""
    columns = ("item", "total", "weight")

    def arrays(path: Path) -> list[np.ndarray]:
        table = pq.ParquetFile(path).read(["metric", *columns])
        table = table.filter(pc.equal(table["metric"], metric))
        return [table[name].to_numpy() for name in columns]

    def read(path: Path) -> "pd.Series[float] | None":
        item, total, weight = _parsed(path, arrays)
        if not len(item):
            return None
        items, places = np.unique(item, return_inverse=True)
        return pd.Series(influence(np.bincount(places, total), np.bincount(places, weight)), index=items)

    paths = list(dict.fromkeys(files.values()))
    parts = dict(zip(paths, in_threads(read, paths, THREADS), strict=True))
    return {run: part for run, path in files.items() if (part := parts[path]) is not None}


def _examples(runs: Mapping[Run, _Finished]) -> dict[str, list[dict[str, Any]]]:
    """Return the examples of the first run of each arm, without arms whose first run has none."""
    firsts = {arm: run.folder / "examples.json" for (arm, _), run in reversed(list(runs.items()))}
    return {arm: read_json(firsts[arm]) for arm in dict.fromkeys(arm for arm, _ in runs) if firsts[arm].exists()}


def _bill(cells: Sequence[Cell], runs_dir: Path) -> pd.DataFrame:
    """Return the bill of these runs, each once, summed over runs and attempts."""
    firsts = list({cell.name: cell for cell in reversed(cells)}.values())[::-1]
    bills = in_threads(lambda cell: list(billed(RunFolder(runs_dir, cell.name).path, cell.config)), firsts, THREADS)
    rows = [
        (cell.arm, attempt.outcome, attempt.hardware, 1, attempt.seconds, attempt.hours.gpu, attempt.hours.core)
        for cell, attempts in zip(firsts, bills, strict=True)
        for attempt in attempts
    ]
    table = pd.DataFrame(rows, columns=BILL_COLUMNS)
    return table.groupby(["arm", "outcome", "hardware"], sort=False, as_index=False).sum()[BILL_COLUMNS]
