"""The outcome of a search: its front, the winner, what is confirmed, and the file that its report reads."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.ablations.request import Request, write_request
from aimv2.ablations.study import WINNER, confirmation
from aimv2.analysis.evidence.searches import VERSION, path_of
from aimv2.base.files import write_json
from aimv2.base.typed import as_typed
from aimv2.config.paths import replaced
from aimv2.sweeps.search.config import with_arguments
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.space import SPLIT, described
from aimv2.sweeps.search.trials import Trial, in_state


def winner(folder: SearchFolder, trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of the Pareto front that is best in the first metric, the first of equal ones; None if no trial
    has finished."""
    sign = 1 if folder.search.directions[0] == "minimize" else -1
    front = folder.front(trials)
    return min(front, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def winner_cells(folder: SearchFolder, trials: Sequence[Trial]) -> list[Cell]:
    """Return the winner's runs on the seeds that confirm it; empty if there is no winner, or if it is the baseline."""
    search, found = folder.search, winner(folder, trials)
    if found is None:
        return []
    split = search.base.evaluation.split
    runs = {seed: replaced(search.run(found.params, seed), {"evaluation.split": split}) for seed in search.seeds}
    baseline = search.study.arms[search.study.baseline].change(search.base)
    if runs[search.seeds[0]] == dataclasses.replace(baseline, seed=search.seeds[0]):
        return []
    return [Cell(arm=WINNER, seed=seed, config=run) for seed, run in runs.items()]


def is_complete(folder: SearchFolder) -> bool:
    """True if as many trials are finished or pruned as requested, and one of them is the winner."""
    trials = folder.trials
    num_ended = len(in_state(trials, "finished", "pruned"))
    return num_ended >= folder.search.num_trials and winner(folder, trials) is not None


def finish(folder: SearchFolder, request: Request, console: Console) -> list[Cell]:
    """Print the outcome, write the file that the report reads, and request the winner's runs, which are returned."""
    search, trials = folder.search, folder.trials
    print_outcome(folder, trials, console)
    found, cells, values = winner(folder, trials), winner_cells(folder, trials), to_json(folder, trials)
    if found is not None and cells:
        arm = dataclasses.replace(
            search.study.design.point(found.params), label=f"trial {found.number}: {described(found.params)}"
        )
        study = confirmation(request.study, {**request.study.arms, WINNER: arm})
        request = dataclasses.replace(request, study=study, cells=[*request.cells, *cells])
    write_json(path_of(folder.runs_dir, search.name), values)
    write_request(folder.runs_dir, request)
    return cells


def to_json(folder: SearchFolder, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the search as the report reads it."""
    search = folder.search
    best = winner(folder, trials)
    space = search.definition()["space"]
    return {
        "version": VERSION,
        "study": search.study.slug,
        "sampler": with_arguments(search.config.sampler, search.config.sampler_args),
        "pruner": with_arguments(search.pruner, search.config.pruner_args),
        "seed": search.config.seed,
        "split": SPLIT,
        "metrics": [
            {"name": name, "direction": direction, "unit": unit}
            for name, direction, unit in zip(search.metrics, search.directions, search.units, strict=True)
        ],
        "curve": search.curve,
        "space": [{"name": name} | (about if "low" in about else {"levels": about}) for name, about in space.items()],
        "trials": [_trial(folder, trial) for trial in trials],
        "front": [trial.number for trial in folder.front(trials)],
        "winner": None if best is None else best.number,
        "is_baseline": best is not None and not winner_cells(folder, trials),
        "importances": importances(folder.study(trials)),
    }


def _trial(folder: SearchFolder, trial: Trial) -> dict[str, Any]:
    config, sign = folder.task(trial).config, folder.search.sign
    samples = config.curve_samples
    return {
        "number": trial.number,
        "state": trial.state,
        "params": trial.params,
        "values": list(trial.values) or None,
        "run": trial.run,
        "curve": [[samples[point], sign * value] for point, value in sorted(trial.curve.items())],
        "samples": trial.spent.get("samples", 0),
        "budget": config.num_samples,
        "flops": trial.spent.get("flops", 0),
        "seconds": trial.spent.get("seconds", 0.0),
        "note": trial.note or trial.kept,
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of the variance of the first metric that each factor explains (fANOVA, Hutter et al. 2014).

    Returns:
        empty with fewer than two factors, or where too few trials differ.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < 4 or len(finished[0].params) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, target=lambda trial: trial.values[0]
            )
    except (RuntimeError, ValueError):  # all values are equal
        return {}
    return {name: float(share) for name, share in found.items()}


def print_outcome(folder: SearchFolder, trials: Sequence[Trial], console: Console) -> None:
    """Print why trials have no result, and the front or the winner. The report lists all trials."""
    search = folder.search
    num_ended, num_failed = len(in_state(trials, "finished", "pruned")), len(in_state(trials, "failed"))
    for trial in trials:
        if trial.note:
            text = f"trial {trial.number}, {trial.state}: {trial.note}; {as_typed('manage')} logs {trial.run}"
            console.print(f"{text} shows more", soft_wrap=True)
    if num_failed and num_ended < search.num_trials:
        console.print(
            f"{num_failed} trial{'s have' if num_failed > 1 else ' has'} failed, and {num_ended} of"
            f" {search.num_trials} are finished or pruned; fix the cause, and launch again for the others",
            style="red",
            soft_wrap=True,
        )
    if len(search.metrics) > 1:
        numbers = ", ".join(str(trial.number) for trial in folder.front(trials))
        console.print(f"Pareto front of {' and '.join(search.metrics)}: trials {numbers or 'none'}", soft_wrap=True)
    if (found := winner(folder, trials)) is None:
        console.print("no trial has finished, so there is no winner", style="red")
        return
    measured = ", ".join(f"{name} {value:.4g}" for name, value in zip(search.metrics, found.values, strict=True))
    best = f"best of {len(in_state(trials, 'finished'))} finished: trial {found.number}"
    if winner_cells(folder, trials):
        seeds = ", ".join(map(str, search.seeds))
        text = f"{best}, {described(found.params)}, with {measured}. The report compares it with the baseline on seeds"
        console.print(f"{text} {seeds}, which no trial has seen", soft_wrap=True)
    else:
        console.print(f"{best}, the baseline itself, so there is nothing to confirm", soft_wrap=True)
