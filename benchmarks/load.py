"""Time the loading of finished runs as tables by analysis.evidence.load, with the means of a loss by arm and step.

Builds the runs in a temporary folder (TMPDIR; 100 kB a run). The loading has a process of its own, of whose memory the
peak is measured; the time of the process, imports and names of runs is not counted.
"""

import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from pydantic import Field
from pydantic.dataclasses import dataclass

from ablations.catalogue import STUDIES
from ablations.expand import Cell as RunCell
from ablations.expand import expand
from aimv2.config.data_config import CHECKED
from aimv2.config.recipes.scales import demo
from aimv2.runs.record import RunFolder
from aimv2.spec.metrics import Metric
from analysis.evidence.load import load
from benchmarks.options import Kept
from benchmarks.results import Cell, Table
from benchmarks.timing import CLOCKS, fresh

NUM_METRICS = 40
NUM_TABLES = 100  # of rows that differ
CURVE_POINTS = 20
COLUMNS = (
    "learning_rate", "pixel_loss", "text_loss", "pixel_loss_gradient", "text_loss_gradient", "gradient_cosine",
    "gradient_norm", "images_per_second", "step_cpu_seconds",
)  # fmt: skip
LOSS = "text_loss"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoadOptions(Kept):
    """How many runs to load."""

    runs: int = Field(default=10_000, ge=14, description="runs, of eight arms, controls and untrained encoders")
    rows: int = Field(default=1000, ge=CURVE_POINTS, description="rows of each run")


def measure(options: LoadOptions) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as temporary:
        build(cells_of(options.runs), Path(temporary), options.rows)
        row = fresh(timed, options.runs, Path(temporary))
    yield Table(f"loading of runs of {options.rows:,} rows", [row])


def timed(num_runs: int, runs_dir: Path) -> dict[str, Cell]:
    """Load the runs; return the time and the memory of this process."""
    cells = cells_of(num_runs)
    assert all(cell.name for cell in cells)  # names are made here
    starts = {name: clock() for name, clock in CLOCKS.items()}
    evidence = load(cells, runs_dir)
    evidence.rows.group_by("arm", "step").agg(pl.mean(LOSS)).collect(engine="streaming").to_pandas()
    evidence.metrics.pivot_table(index="arm", columns="metric", values="value")
    seconds = {name: CLOCKS[name]() - start for name, start in starts.items()}
    return {
        "runs": len(cells),
        "seconds": seconds["wall"],
        "CPU seconds": seconds["cpu"],
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def cells_of(num_runs: int) -> list[RunCell]:
    """Return about this many runs of the eight arms, controls and untrained encoder of a study."""
    study = STUDIES["prefix_ratio"]
    num_arms = len(study.conditions) + 1
    return expand(study, demo(), seeds=range(num_runs // num_arms))


def build(cells: Sequence[RunCell], runs_dir: Path, num_rows: int) -> None:
    """Write finished runs: the first by the project's own classes, the others as its copies, and rows of their own."""
    first, *others = cells
    attempt = RunFolder(runs_dir, first.name).acquire(first.config)
    assert attempt is not None, "no other process has this folder"
    with attempt:
        attempt.write_rows([{"step": 0, "samples": 0}])
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
    for cell in others:
        shutil.copytree(runs_dir / first.name, runs_dir / cell.name)
    for number, cell in enumerate(cells):
        (runs_dir / cell.name / "attempts" / "0001" / "metrics.parquet").write_bytes(tables[number % NUM_TABLES])


def rows(number: int, num_rows: int) -> pd.DataFrame:
    """Return the rows of a run, with a held-out loss now and then."""
    rng, step = np.random.default_rng(number), np.arange(num_rows)
    table = pd.DataFrame({"step": step, "samples": 16 * step, "train_flops": 10**9 * step, "seconds": 0.05 * step})
    table["held_out_caption_loss"] = np.where(step % (num_rows // CURVE_POINTS) == 0, rng.random(num_rows), np.nan)
    for name in COLUMNS:
        table[name] = rng.random(num_rows)
    return table
