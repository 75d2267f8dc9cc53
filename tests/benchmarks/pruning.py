"""python benchmarks/pruning.py [folder=pruning] [sweep=optimizer] [trials=24] [key=value ...]: what ASHA saves.

Searches a study twice at random points, the same ones in both searches: without pruning and with ASHA. Prints the
samples that each took, and the difference of their winners on fresh seeds. Other keys go to the launches. Both are
kept in the folder, so the same command continues after an interruption.

The curves of the search without pruning are also replayed in 200 random orders, as one worker would meet them, with the
same pruner: once is luck, and the first trial is never pruned. The baseline, which is the first trial of a search, is
left out there.
"""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import optuna
from scipy import stats

from aimv2.config.arguments import HELP
from aimv2.runs.record import RunFolder
from sweeps.search.optimizers import pruner_of

USAGE = f"{__doc__}"
LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"
NUM_REPLAYS = 200
PRUNERS = ("none", "asha")


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


def launched(folder: Path, sweep: str, trials: str, pruner: str, words: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """Do a search, or what is left of it; return its outcome and its runs folder."""
    runs_dir = folder / pruner
    command = [
        *(sys.executable, str(LAUNCH), f"sweep={sweep}", "search=optuna", "search.sampler=random"),
        *(f"search.pruner={pruner}", f"search.trials={trials}", f"runs_dir={runs_dir}", f"reports_dir={runs_dir}"),
        *words,
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


def main(arguments: Sequence[str]) -> int:
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    typed = dict(word.split("=", 1) for word in arguments)
    folder, sweep, trials = (
        Path(typed.pop("folder", "pruning")),
        typed.pop("sweep", "optimizer"),
        typed.pop("trials", "24"),
    )
    words = [f"{key}={value}" for key, value in typed.items()]
    found = {pruner: launched(folder, sweep, trials, pruner, words) for pruner in PRUNERS}
    metric = found["none"][0]["metrics"][0]
    sign = 1 if metric["direction"] == "minimize" else -1
    finished = [trial for trial in found["none"][0]["trials"] if trial["state"] == "finished"]
    print(f"\n{metric['name']} ({metric['unit']}), {trials} trials of {sweep} at random points\n")
    print("| pruner | finished | pruned | samples | best trial | its value on the validation split |")
    print("| --- | --- | --- | --- | --- | --- |")
    samples = {}
    for pruner, (outcome, _) in found.items():
        count = [sum(trial["state"] == state for trial in outcome["trials"]) for state in ("finished", "pruned")]
        samples[pruner] = sum(trial["samples"] for trial in outcome["trials"])
        value = outcome["trials"][outcome["winner"]]["values"][0]
        print(f"| {pruner} | {count[0]} | {count[1]} | {samples[pruner]:,} | {outcome['winner']} | {value:.4f} |")
    print(f"\nASHA saved {1 - samples['asha'] / samples['none']:.0%} of the samples.")
    of_none, of_asha = (confirmed(found[pruner][1], metric["name"]) for pruner in PRUNERS)
    differences = np.array([of_asha[seed] - of_none[seed] for seed in of_none])
    if not differences.any():
        print("Both found the same winner.")
    else:
        half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
        print(
            f"On {len(differences)} fresh seeds, ASHA's winner minus the other: {differences.mean():+.4f}"
            f" [{differences.mean() - half:+.4f}, {differences.mean() + half:+.4f}] {metric['unit']} (95 %, paired)."
        )
    finished = [trial for trial in finished if trial["number"]]
    curves = [[sign * value for _, value in trial["curve"]] for trial in finished]
    finals = [sign * trial["values"][0] for trial in finished]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    orders = random.Random(0)
    replays = [replay(curves, finals, orders.sample(range(len(finals)), len(finals))) for _ in range(NUM_REPLAYS)]
    saved = np.quantile([one.saved for one in replays], [0.025, 0.5, 0.975])
    worse = [one.best - min(finals) for one in replays]
    print(
        f"Replayed in {NUM_REPLAYS} orders without the baseline: saved {saved[1]:.0%} [{saved[0]:.0%},"
        f" {saved[2]:.0%}] of the samples; found the best of {len(finals)} trials in"
        f" {mean(one == 0 for one in worse):.0%} of the orders; the one found was worse by {mean(worse):.4f} on"
        f" average, and by {np.quantile(worse, 0.95):.4f} or less in 95 %. The standard deviation over seeds is"
        f" {stdev(of_none.values()):.4f}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
