"""The outcome of a search: its front, the winner, what is confirmed, and the file that its report reads."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Column, Table

from ablations.expand import Cell
from ablations.request import Request, write_request
from ablations.study import WINNER, confirmation
from aimv2.base.files import write_json
from aimv2.config.paths import replaced
from analysis.evidence.searches import VERSION, path_of
from sweeps.plan import Plan
from sweeps.search.journal import ENDED, Journal, failed
from sweeps.search.names import NOTE, RUN, SPENT, STATES
from sweeps.search.space import SPLIT, Search, described
from sweeps.status.board import WIDTHS


def front(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> list[FrozenTrial]:
    """Return the finished trials than which no other is better in one metric and at least as good in all.

    Of equal ones the first counts. With one metric, this is the best trial.
    """
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    costs = {one.number: tuple(sign * value for sign, value in zip(signs, one.values, strict=True)) for one in finished}

    def is_better(one: FrozenTrial, other: FrozenTrial) -> bool:
        a, b = costs[one.number], costs[other.number]
        return all(x <= y for x, y in zip(a, b, strict=True)) and (a != b or one.number < other.number)

    return [trial for trial in finished if not any(is_better(one, trial) for one in finished if one is not trial)]


def winner(search: Search, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial of the front that is best in the first metric; None if no trial has finished."""
    sign = 1 if search.directions[0] == "minimize" else -1
    return min(front(trials, search.directions), key=lambda trial: sign * trial.values[0], default=None)


def winner_cells(search: Search, trials: Sequence[FrozenTrial]) -> list[Cell]:
    """Return the winner's runs on the seeds that confirm it; empty if there is no winner, or if it is the baseline."""
    found = winner(search, trials)
    if found is None:
        return []
    split = search.base.evaluation.split
    runs = {seed: replaced(search.run(found.params, seed), {"evaluation.split": split}) for seed in search.seeds}
    baseline = search.study.arms[search.study.baseline].change(search.base)
    if runs[search.seeds[0]] == dataclasses.replace(baseline, seed=search.seeds[0]):
        return []
    return [Cell(arm=WINNER, seed=seed, config=run) for seed, run in runs.items()]


def is_complete(search: Search, trials: Sequence[FrozenTrial]) -> bool:
    """True if as many trials are finished or pruned as requested, and one of them is the winner."""
    return _num_ended(trials) >= search.num_trials and winner(search, trials) is not None


def finish(journal: Journal, request: Request, console: Console) -> Plan:
    """Print the trials, write the file that the report reads, and request the winner's runs; return the plan of both
    arms."""
    search, trials = journal.search, journal.settle()
    write_json(path_of(journal.runs_dir, search.name), to_json(journal, trials))
    print_trials(search, trials, console)
    found, cells = winner(search, trials), winner_cells(search, trials)
    if found is not None and cells:
        arm = dataclasses.replace(
            search.study.design.point(found.params), label=f"trial {found.number}: {described(found.params)}"
        )
        study = confirmation(request.study, {**request.study.arms, WINNER: arm})
        request = dataclasses.replace(request, study=study, cells=[*request.cells, *cells])
    write_request(journal.runs_dir, request)
    return Plan(request.folder, request.cells, journal.runs_dir)


def to_json(journal: Journal, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return the search as the report reads it."""
    search = journal.search
    best = winner(search, trials)
    space = search.definition()["space"]
    return {
        "version": VERSION,
        "study": search.study.slug,
        "sampler": search.config.sampler,
        "pruner": search.pruner,
        "seed": search.config.seed,
        "split": SPLIT,
        "metrics": [
            {"name": name, "direction": direction, "unit": unit}
            for name, direction, unit in zip(search.metrics, search.directions, search.units, strict=True)
        ],
        "curve": search.curve if len(search.metrics) == 1 else None,
        "space": [{"name": name} | (about if "low" in about else {"levels": about}) for name, about in space.items()],
        "trials": [_trial(journal, trial) for trial in trials if RUN in trial.user_attrs],
        "front": [trial.number for trial in front(trials, search.directions)],
        "winner": None if best is None else best.number,
        "is_baseline": best is not None and not winner_cells(search, trials),
        "importances": importances(journal.study),
    }


def _trial(journal: Journal, trial: FrozenTrial) -> dict[str, Any]:
    search, config = journal.search, journal.config_of(trial)
    sign = search.sign
    curve = [
        [config.curve_steps[number] * config.budget.batch_size, sign * value]
        for number, value in sorted(trial.intermediate_values.items())
    ]
    cost: Mapping[str, float] = trial.user_attrs.get(SPENT, {})
    return {
        "number": trial.number,
        "state": STATES[trial.state.name],
        "params": dict(trial.params),
        "values": list(trial.values) if trial.state == TrialState.COMPLETE else None,
        "run": trial.user_attrs[RUN],
        "curve": curve,
        "samples": cost.get("samples", 0),
        "budget": config.budget.samples,
        "flops": cost.get("flops", 0),
        "seconds": cost.get("seconds", 0.0),
        "note": trial.user_attrs.get(NOTE, ""),
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


def print_trials(search: Search, trials: Sequence[FrozenTrial], console: Console) -> None:
    """Print all trials, best first, then the front or the winner."""
    sign = 1 if search.directions[0] == "minimize" else -1
    finished = sorted(
        (trial for trial in trials if trial.state == TrialState.COMPLETE), key=lambda trial: sign * trial.values[0]
    )
    rest = [trial for trial in trials if trial.state != TrialState.COMPLETE and RUN in trial.user_attrs]
    run = Column("run", no_wrap=True, min_width=WIDTHS["run"])
    table = Table("trial", "state", *search.study.design.space, *search.metrics, "samples", run)
    for trial in (*finished, *rest):
        values = [f"{value:.4g}" for value in trial.values] if trial in finished else [""] * len(search.metrics)
        point = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.params.values()]
        state = STATES[trial.state.name]
        samples = f"{trial.user_attrs.get(SPENT, {}).get('samples', 0):,.0f}"
        table.add_row(str(trial.number), state, *point, *values, samples, trial.user_attrs[RUN])
    console.print(table)
    for trial in rest:
        if note := trial.user_attrs.get(NOTE):
            console.print(
                f"trial {trial.number}: {note}; python sweeps/manage.py logs {trial.user_attrs[RUN]} shows more",
                soft_wrap=True,
            )
    if (num_failed := len(failed(trials))) and _num_ended(trials) < search.num_trials:
        console.print(
            f"{num_failed} trial{'s have' if num_failed > 1 else ' has'} failed, and {_num_ended(trials)} of"
            f" {search.num_trials} are finished or pruned; fix the cause, and launch again for the others",
            style="red",
            soft_wrap=True,
        )
    if len(search.metrics) > 1:
        numbers = ", ".join(str(trial.number) for trial in front(trials, search.directions))
        console.print(f"Pareto front of {' and '.join(search.metrics)}: trials {numbers or 'none'}", soft_wrap=True)
    found = winner(search, trials)
    if found is None:
        console.print("no trial has finished, so there is no winner", style="red")
    elif winner_cells(search, trials):
        console.print(
            f"best of {len(finished)} finished: trial {found.number}, {described(found.params)}. The report compares"
            f" it with the baseline on seeds {', '.join(map(str, search.seeds))}, which no trial has seen",
            soft_wrap=True,
        )
    else:
        console.print(
            f"best of {len(finished)} finished: trial {found.number}, the baseline itself, so there is nothing to"
            " confirm",
            soft_wrap=True,
        )


def _num_ended(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state in ENDED for trial in trials)
