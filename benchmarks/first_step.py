"""Time a run from the typed command to the end of its first step, with imports and data.

Starts python -m aimv2 train with a budget of one step, in a new process and a new folder of runs each time, and
interrupts it after that step. A first start, which trains the tokenizer, is shown by itself.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import RunFailedError
from aimv2.config.data_config import CHECKED
from analysis.costs.ratios import median
from benchmarks.options import Kept
from benchmarks.results import Cell, Table
from benchmarks.training import recipe

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.01
UNTIL = ("the run's attempt", "training", "the end of the first step")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class FirstStepOptions(Kept):
    """Which run to start, and how often."""

    repeats: int = Field(default=10, ge=1, description="starts after the first; an interval needs 6")
    scale: str = Field(default="demo", description="scale of the run")


def measure(options: FirstStepOptions) -> Iterator[Table]:
    """Yield a table; an unknown scale is a UsageError."""
    batch_size = recipe(options.scale).budget.batch_size
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"scale={options.scale}", f"budget.samples={batch_size}", f"data.cache_dir={folder}/cache"]
        starts = [started(arguments, Path(folder, f"runs-{repeat}")) for repeat in range(options.repeats + 1)]
    first, *others = starts
    rows: list[dict[str, Cell]] = [
        {"until": name, "first start": seconds, "the others": median(list(rest))}
        for name, seconds, *rest in zip(UNTIL, first, *others, strict=True)
    ]
    yield Table("seconds from the command", rows)


def started(arguments: Sequence[str], runs_dir: Path) -> list[float]:
    """Start ``train`` in a new process, and interrupt it after its first step; return the seconds until each of UNTIL.

    Args:
        arguments: of a run of one step.
        runs_dir: an empty or missing folder.

    Raises:
        RunFailedError: the command ended before the step; the message is its output.
    """
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "aimv2", "train", *arguments, f"runs_dir={runs_dir}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rows = list[dict[str, float]]()
    while len(rows) < 2:
        if process.poll() is not None:
            raise RunFailedError("bug", process.communicate()[0])
        time.sleep(POLL_SECONDS)
        rows = rows_in(runs_dir)
    process.send_signal(signal.SIGINT)
    process.communicate()
    # The rows have the seconds since the attempt began, when it wrote this file.
    holders = runs_dir.glob("*/attempts/0001/holder.json")  # the second is the untrained encoder's, if it came to that
    attempt = min(holder.stat().st_mtime for holder in holders) - began
    return [attempt, *(attempt + row["seconds"] for row in rows[:2])]


def rows_in(runs_dir: Path) -> list[dict[str, float]]:
    return [
        json.loads(line)
        for path in runs_dir.glob("*/attempts/0001/metrics.jsonl")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
