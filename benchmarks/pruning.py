"""Measure what ASHA saves: search a study twice at random points, the same ones, without pruning and with ASHA.

The rows have the samples of each search, its best trial, and the metric of its winner on fresh seeds. Both searches are
kept in the folder, so the same command continues after an interruption.

The curves of the search without pruning are also replayed in 200 random orders, as one worker would meet them, with the
same pruner: once is luck, and the first trial is never pruned. The baseline, which is the first trial of a search, is
left out there.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import optuna
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy import stats

from aimv2.config.data_config import CHECKED
from aimv2.runs.record import RunFolder
from analysis.costs.ratios import LEVEL, Median
from benchmarks.options import Kept
from benchmarks.results import Cell, Table
from sweeps.search.optimizers import pruner_of

LAUNCH = Path(__file__).parents[1] / "sweeps" / "launch.py"
NUM_REPLAYS = 200
PRUNERS = ("none", "asha")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PruningOptions(Kept):
    """Which study to search."""

    folder: str = Field(default="pruning", description="where both searches are kept")
    sweep: str = Field(default="optimizer", description="the study")
    trials: int = Field(default=24, ge=2, description="trials of each search")
    launch: tuple[str, ...] = Field(
        default=(), description="more arguments of both launches", examples=["[scale=tiny,budget.samples=4096]"]
    )


def measure(options: PruningOptions) -> Iterator[Table]:
    """Yield the two searches, and the replays."""
    outcomes = {pruner: launched(options, pruner) for pruner in PRUNERS}
    none = outcomes["none"][0]
    metric = none["metrics"][0]
    fresh = {pruner: confirmed(runs_dir, metric["name"]) for pruner, (_, runs_dir) in outcomes.items()}
    rows: list[dict[str, Cell]] = []
    for pruner, (outcome, _) in outcomes.items():
        states = [trial["state"] for trial in outcome["trials"]]
        differences = [fresh[pruner][seed] - fresh["none"][seed] for seed in fresh["none"]]
        rows.append(
            {
                "pruner": pruner,
                "finished": states.count("finished"),
                "pruned": states.count("pruned"),
                "samples": sum(trial["samples"] for trial in outcome["trials"]),
                "best trial": outcome["winner"],
                "its value": outcome["trials"][outcome["winner"]]["values"][0],
                "on fresh seeds minus the first": paired(differences) if any(differences) else 0.0,
            }
        )
    yield Table(f"{options.trials} trials of {options.sweep}; {metric['name']} in {metric['unit']}", rows)
    sign = 1 if metric["direction"] == "minimize" else -1
    finished = [trial for trial in none["trials"] if trial["state"] == "finished" and trial["number"]]
    curves = [[sign * value for _, value in trial["curve"]] for trial in finished]
    row = replays(curves, [sign * trial["values"][0] for trial in finished])
    yield Table(
        f"replays in {NUM_REPLAYS} orders", [row | {"standard deviation over seeds": stdev(fresh["none"].values())}]
    )


def replays(curves: Sequence[Sequence[float]], finals: Sequence[float]) -> dict[str, Cell]:
    """Return what ASHA saved in random orders, with the range of 95 %, and how much worse its best trial was."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    orders = random.Random(0)
    found = [replay(curves, finals, orders.sample(range(len(finals)), len(finals))) for _ in range(NUM_REPLAYS)]
    low, middle, high = np.quantile([one.saved for one in found], [0.025, 0.5, 0.975]).tolist()
    worse = [one.best - min(finals) for one in found]
    return {
        "trials": len(finals),
        "samples saved": Median(middle, low, high, NUM_REPLAYS),
        "best one found": mean(one == 0 for one in worse),
        "worse on average by": mean(worse),
        "in 95 % at most by": float(np.quantile(worse, LEVEL)),
    }


def paired(differences: Sequence[float]) -> Median:
    """Return the mean of paired differences with its 95 % interval."""
    center = mean(differences)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1) * stats.sem(differences))
    return Median(center, center - half, center + half, len(differences))


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
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner_of("asha", num_points))
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


def launched(options: PruningOptions, pruner: str) -> tuple[dict[str, Any], Path]:
    """Do a search, or what is left of it; return its outcome and its runs folder."""
    runs_dir = Path(options.folder, pruner)
    command = [
        *(sys.executable, str(LAUNCH), f"sweep={options.sweep}", "search=optuna", "search.sampler=random"),
        *(f"search.pruner={pruner}", f"search.trials={options.trials}"),
        *(f"runs_dir={runs_dir}", f"reports_dir={runs_dir}", *options.launch),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (outcome,) = (runs_dir / "searches").glob("*.json")
    return json.loads(outcome.read_text()), runs_dir


def confirmed(runs_dir: Path, metric: str) -> dict[int, float]:
    """Return the metric of the winner by seed; that of the baseline if it won."""
    request = max(runs_dir.glob("studies/*/*.json"), key=lambda path: json.loads(path.read_text())["time"])
    cells = json.loads(request.read_text())["cells"]
    arm = cells[-1]["arm"]
    return {
        cell["seed"]: RunFolder(runs_dir, cell["run"]).result()["metrics"][metric]["value"]
        for cell in cells
        if cell["arm"] == arm
    }
