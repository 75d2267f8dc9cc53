"""Measure what ASHA saves, by the curves of a search that prunes no trial.

Searches a study at random points, or continues the search in the folder. Its curves are then replayed through the
pruner in 200 random orders, as one worker would meet them: one order is luck, and its first trial is never pruned. The
baseline, which is the first trial of a search, is left out.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import optuna
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from analysis.costs.ratios import Median
from benchmarks.options import Kept
from benchmarks.results import Cell, Table
from sweeps.search.optimizers import pruner_of

LAUNCH = Path(__file__).parents[1] / "sweeps" / "launch.py"
NUM_REPLAYS = 200


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PruningOptions(Kept):
    """Which study to search."""

    folder: str = Field(default="pruning", description="the runs of the search, where it is continued")
    sweep: str = Field(default="optimizer", description="the study")
    trials: int = Field(default=24, ge=3, description="trials of the search")
    launch: tuple[str, ...] = Field(
        default=(), description="more arguments of the launch", examples=["[scale=tiny,budget.samples=4096]"]
    )


def measure(options: PruningOptions) -> Iterator[Table]:
    """Yield what ASHA saves in random orders, with the range of 95 % of them, and how much worse its best trial is.

    Raises:
        UsageError: the launch of the search fails.
    """
    command = [
        *(sys.executable, str(LAUNCH), f"sweep={options.sweep}", "search=optuna", "search.sampler=random"),
        *("search.pruner=none", f"search.trials={options.trials}"),
        *(f"runs_dir={options.folder}", f"reports_dir={options.folder}", *options.launch),
    ]
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
        raise UsageError("the search failed; its launch says why, above")
    (path,) = Path(options.folder, "searches").glob("*.json")
    outcome = json.loads(path.read_text())
    metric, *_ = outcome["metrics"]
    sign = 1 if metric["direction"] == "minimize" else -1
    finished = [trial for trial in outcome["trials"] if trial["state"] == "finished" and trial["number"]]
    curves = [[sign * value for _, value in trial["curve"]] for trial in finished]
    finals = [sign * trial["values"][0] for trial in finished]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    orders = random.Random(0)
    found = [replay(curves, finals, orders.sample(range(len(finals)), len(finals))) for _ in range(NUM_REPLAYS)]
    low, middle, high = np.quantile([one.saved for one in found], [0.025, 0.5, 0.975]).tolist()
    worse = [one.best - min(finals) for one in found]
    row: dict[str, Cell] = {
        "trials": len(finals),
        "share of samples saved": Median(middle, low, high, NUM_REPLAYS),
        "best one found": mean(one == 0 for one in worse),
        "worse on average by": mean(worse),
        "in 95 % at most by": float(np.quantile(worse, 0.95)),
    }
    yield Table(f"{options.sweep} in {NUM_REPLAYS} orders; {metric['name']} in {metric['unit']}", [row])


class Replayed(NamedTuple):
    """A replay: the share of the samples that pruning saved, and the final value of the best trial that was left."""

    saved: float
    best: float


def replay(curves: Sequence[Sequence[float]], finals: Sequence[float], order: Sequence[int]) -> Replayed:
    """Prune these trials by ASHA, in this order, one after the other. Lower values are better.

    Args:
        curves: of each trial, at equally distant points; the last one is that of the trained model.
    """
    num_points = len(curves[0])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner_of("asha", {}, num_points))
    spent, left = 0, list[float]()
    for number in order:
        trial = study.ask()
        for point, value in enumerate(curves[number], 1):
            trial.report(value, point)
            if point < num_points and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, finals[number])
            left.append(finals[number])
        spent += point
    return Replayed(1 - spent / (num_points * len(order)), min(left))
