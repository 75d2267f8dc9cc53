"""python benchmarks/load.py [runs=10000] [rows=1000]: seconds and memory to load and aggregate runs.

Builds finished runs in a temporary folder (TMPDIR; 100 kB a run), and prints a table: ``analysis.evidence.load``, and the plain
way with pandas, each in a process of its own. Both give all tables, the mean loss by arm and step, and the mean final
metrics by arm. The time of processes, imports and names of runs is not counted.
"""

import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
import polars as pl
from aimv2.spec.metrics import Metric
from analysis.evidence.load import load

from ablations.catalogue import STUDIES
from ablations.expand import Cell, expand
from aimv2.config.recipes.scales import demo
from aimv2.runs.record import RunFolder

USAGE = f"{__doc__}"
NUM_METRICS = 40
NUM_TABLES = 100  # of rows that differ
CURVE_POINTS = 20
COLUMNS = (
    "learning_rate", "pixel_loss", "text_loss", "pixel_loss_gradient", "text_loss_gradient", "gradient_cosine",
    "gradient_norm", "images_per_second", "step_cpu_seconds",
)  # fmt: skip
LOSS = "text_loss"


def cells_of(num_runs: int) -> list[Cell]:
    """Return about this many runs of the eight arms, controls and untrained encoder of a study."""
    study = STUDIES["prefix_ratio"]
    num_arms = len(study.conditions) + 1
    return expand(study, demo(), seeds=range(num_runs // num_arms))


def build(cells: Sequence[Cell], runs_dir: Path, num_rows: int) -> None:
    """Write finished runs: the first by the project's own classes, the others as its copies with other rows."""
    first, *others = cells
    with RunFolder(runs_dir, first.name).acquire(first.config) as attempt:
        attempt.write_rows(rows(0, num_rows).to_dict("records"))
        attempt.write_manifest(
            {
                "threads": 1,
                "hardware": "none",
                "commit": "abc",
                "versions": {"torch": "2"},
                "code": "c" * 12,
                "parameters": {"encoder": 1000, "decoder": 2000},
                "train_pairs": 10,
                "held_out_pairs": 5,
            }
        )
        (attempt.folder / "examples.json").write_text("[]")
        metrics = {
            f"metric_{n}": Metric(n / 7, "nats/token", "a text as long as others are") for n in range(NUM_METRICS)
        }
        attempt.publish(metrics, train_flops=1, train_seconds=1.0, train_cpu_seconds=1.0, mixture={})
    (runs_dir / first.name / "attempts" / "0001" / "metrics.jsonl").unlink()  # not read
    tables = []
    for number in range(NUM_TABLES):
        rows(number, num_rows).to_parquet(path := runs_dir / "rows.parquet")
        tables.append(path.read_bytes())
    for number, cell in enumerate(others):
        shutil.copytree(runs_dir / first.name, runs_dir / cell.name)
        (runs_dir / cell.name / "attempts" / "0001" / "metrics.parquet").write_bytes(tables[number % NUM_TABLES])


def rows(number: int, num_rows: int) -> pd.DataFrame:
    """Return the rows of a run, with a held-out loss now and then."""
    rng, step = np.random.default_rng(number), np.arange(num_rows)
    table = pd.DataFrame({"step": step, "samples": 16 * step, "train_flops": 10**9 * step, "seconds": 0.05 * step})
    table["held_out_caption_loss"] = np.where(step % (num_rows // CURVE_POINTS) == 0, rng.random(num_rows), np.nan)
    return table.assign(**{name: rng.random(num_rows) for name in COLUMNS})


def with_load(cells: Sequence[Cell], runs_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the mean loss by arm and step, and the mean final metrics by arm, as ``analysis.evidence.load`` gives them."""
    evidence = load(cells, runs_dir)
    curves = evidence.rows.group_by("arm", "step").agg(pl.mean(LOSS)).collect(engine="streaming")
    return curves.sort("arm", "step").to_pandas(), _finals(evidence.metrics)


def with_pandas(cells: Sequence[Cell], runs_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the same from a DataFrame per run."""
    runs, curves, metrics = [], [], []
    for cell in cells:
        result = json.loads((runs_dir / cell.name / "result.json").read_text())
        folder = runs_dir / cell.name / "attempts" / f"{result['attempt']:04d}"
        where = {"arm": cell.arm, "seed": cell.seed}
        runs.append({**where, **json.loads((folder / "manifest.json").read_text())})
        metrics += [{**where, "metric": name, **metric} for name, metric in result["metrics"].items()]
        curves.append(pd.read_parquet(folder / "metrics.parquet").assign(**where))
    table = pd.concat(curves, ignore_index=True)
    means = table.groupby(["arm", "step"])[LOSS].mean().reset_index()
    return means, _finals(pd.DataFrame(metrics))


def _finals(metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics.pivot_table(index="arm", columns="metric", values="value")


def measure(way: Callable[..., tuple[pd.DataFrame, pd.DataFrame]], num_runs: int, runs_dir: Path) -> None:
    """Print the row of a way."""
    cells = cells_of(num_runs)
    assert all(cell.name for cell in cells)
    started, started_cpu = time.perf_counter(), time.process_time()
    curves, finals = way(cells, runs_dir)
    seconds = time.perf_counter() - started
    cpu_seconds = time.process_time() - started_cpu
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    sums = f"{curves[LOSS].sum():.6f} | {finals.to_numpy().sum():.4f}"
    print(
        f"| {way.__name__} | {len(cells):,} | {seconds:.1f} | {cpu_seconds:.1f} | {gigabytes:.2f} | {sums} |",
        flush=True,
    )


def main(words: Sequence[str]) -> int:
    """Print the table."""
    values = {"runs": "10000", "rows": "1000"} | dict(word.partition("=")[::2] for word in words)
    if values.keys() != {"runs", "rows"}:
        print(USAGE, end="")
        return 0 if "--help" in words else 2
    num_runs, num_rows = int(values["runs"]), int(values["rows"])
    with tempfile.TemporaryDirectory() as temporary:
        build(cells_of(num_runs), Path(temporary), num_rows)
        print(f"{num_rows:,} rows a run, {len(os.sched_getaffinity(0))} cores\n")
        columns = ("way", "runs", "seconds", "CPU seconds", "peak memory, GB", "sum of losses", "sum of metrics")
        print(f"| {' | '.join(columns)} |\n| --- {'| ---: ' * (len(columns) - 1)}|", flush=True)
        for way in (with_load, with_pandas):
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(way, num_runs, Path(temporary))
            )
            process.start()
            process.join()
            if process.exitcode:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
