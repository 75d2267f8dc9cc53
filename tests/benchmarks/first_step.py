"""python benchmarks/first_step.py [repeats=10] [scale=demo]: seconds from the typed command to its first step.

Starts ``python -m aimv2 train scale=demo`` with a budget of one step, in a new process and a new folder of runs each
time, and interrupts it after that step. A first start, which trains the tokenizer, is shown by itself. Prints the
median over the others, and its 95 % interval by order statistics, which needs 6 repeats. All is in a temporary folder.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from scipy.stats import quantile_test

from aimv2.config.recipes.scales import SCALES

USAGE = f"{__doc__}"
ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {"repeats": "10", "scale": "demo"}
POLL_SECONDS = 0.01


class Start(NamedTuple):
    """Seconds from the command: until the run's attempt began, until training began, and until a step was finished."""

    attempt: float
    training: float
    step: float


def started(arguments: Sequence[str], runs_dir: Path) -> Start:
    """Start ``train`` in a new process, and interrupt it after its first step.

    Args:
        arguments: of a run of one step.
        runs_dir: an empty or missing folder.

    Raises:
        RuntimeError: the command ended before the step; the message is its output.
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
            raise RuntimeError(process.communicate()[0])
        time.sleep(POLL_SECONDS)
        rows = rows_in(runs_dir)
    process.send_signal(signal.SIGINT)
    process.communicate()
    # The rows have the seconds since the attempt began, when it wrote this file.
    holders = runs_dir.glob("*/attempts/0001/holder.json")  # the second is the untrained encoder's, if it came to that
    attempt = min(holder.stat().st_mtime for holder in holders) - began
    return Start(attempt, *(attempt + row["seconds"] for row in rows[:2]))


def rows_in(runs_dir: Path) -> list[dict[str, float]]:
    """Return the whole rows of the only run."""
    return [
        json.loads(line)
        for path in runs_dir.glob("*/attempts/0001/metrics.jsonl")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def summary(seconds_R: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the bounds of its 95 % interval, which are NaN with fewer than six repeats."""
    interval = quantile_test(seconds_R, p=0.5).confidence_interval(0.95)
    return float(np.median(seconds_R)), float(interval.low), float(interval.high)


def main(words: Sequence[str]) -> int:
    """Print a table."""
    if "--help" in words:
        print(USAGE, end="")
        return 0
    values = DEFAULTS | dict(word.partition("=")[::2] for word in words)
    if values.keys() != DEFAULTS.keys() or values["scale"] not in SCALES:
        print(USAGE, end="")
        return 2
    batch_size = SCALES[values["scale"]]().budget.batch_size
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"scale={values['scale']}", f"budget.samples={batch_size}", f"data.cache_dir={folder}/cache"]
        starts = [started(arguments, Path(folder) / f"runs-{repeat}") for repeat in range(int(values["repeats"]) + 1)]
    first, *others = starts
    print("| seconds from the command to | first start | median of the others [95 %] |\n| --- | --- | --- |")
    names = {"attempt": "the run's attempt", "training": "training", "step": "the end of the first step"}
    for field, name in names.items():
        median, low, high = summary([getattr(start, field) for start in others])
        print(f"| {name} | {getattr(first, field):.2f} | {median:.2f} [{low:.2f}, {high:.2f}] |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
