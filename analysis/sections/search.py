"""The search behind a confirmation: its trials, what they cost, and how the winner was chosen."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aimv2.ablations.searches import Dimension, Search, State, Trial
from aimv2.ablations.study import WINNER
from aimv2.analysis.document.model import Block, Paragraph, Section, Table, code_span
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.tables import estimate
from aimv2.base.errors import escape

STATES: tuple[State, ...] = ("finished", "pruned", "failed", "running")
CONTROLS = (
    "The confirmation has no controls of its own: the sensitivity study says what its primary metric can detect, and"
    " nothing is concluded without it. The winner was fixed before these runs, which have other seeds than the search,"
    " so their interval needs no correction for the choice."
)


def section(findings: Findings) -> Section | None:
    """Return what the search did and found; None for a study that is none. Called in the context ``style``."""
    search = findings.search
    if search is None:
        return None
    blocks: list[Block] = [Paragraph(_about(search)), Paragraph(_chosen(findings, search))]
    if findings.compares:
        blocks.append(Paragraph(CONTROLS))
    if not search.trials:
        return Section("Search", blocks)
    blocks += _importances(search) if search.finished else []
    return Section("Search", [*blocks, *_cost(search), Section("All trials", [_trials(search)])])


def numbers(findings: Findings) -> dict[str, Any]:
    """Return the search and its confirmation as JSON values, by the key ``search``; empty for other studies."""
    search = findings.search
    if search is None:
        return {}
    confirmed = findings.comparisons.get(WINNER)
    values = {
        "result": findings.confirmation,
        "confirmation": estimate(confirmed.difference, findings.unit) if confirmed else None,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
        "split": search.split,
        "metrics": [asdict(metric) for metric in search.metrics],
        "trials": {state: len(search.in_state(state)) for state in STATES},
        "winner": search.winner,
        "best_value": search.winning.value if search.winning else None,
        "front": list(search.front),
        "importances": dict(search.importances),
        "cost": {state: cost_of(search.in_state(state)) for state in STATES},
        "saved_samples": _saved(search),
    }
    return {"search": values}


def _about(search: Search) -> str:
    counts = [(state, len(search.in_state(state))) for state in STATES]
    states = ", ".join(f"{number} {state}" for state, number in counts if number)
    pruner = "without pruning" if search.pruner == "none" else f"pruner {code_span(search.pruner)}"
    aims = " and ".join(f"{metric.direction} {escape(metric.name)}" for metric in search.metrics)
    num_trials = f"{len(search.trials)} trial{'s' * (len(search.trials) != 1)}"
    return (
        f"The search varied {'; '.join(map(range_of, search.space))}, to {aims} on the {escape(search.split)} split"
        f" (sampler {code_span(search.sampler)}, {pruner}, seed {search.seed}). It has"
        f" {num_trials}{f': {states}' if states else ''}."
    )


def range_of(dimension: Dimension) -> str:
    """Return a dimension with its range or its levels."""
    if dimension.levels is not None:
        return f"{escape(dimension.name)} ({', '.join(map(escape, dimension.levels.values()))})"
    return f"{escape(dimension.name)} ({dimension.low:g} to {dimension.high:g}{', logarithmic' * dimension.log})"


def _chosen(findings: Findings, search: Search) -> str:
    """Return the winner's point with what the search measured, and what the confirmation measured."""
    winner = search.winning
    if winner is None:
        return "It has no winner." if search.finished else "It has no winner, since no trial has finished."
    params = ", ".join(f"{escape(one.name)} = {escape(one.text(winner.params[one.name]))}" for one in search.space)
    measured = ", ".join(
        f"{escape(metric.name)} {_number(value)} {escape(metric.unit)}".rstrip()
        for metric, value in zip(search.metrics, winner.values or (), strict=True)
    )
    itself = ", which is the baseline itself" * search.is_baseline
    text = f"The winner is trial {search.winner}{itself}: {params}. The search measured {measured} on the"
    text += f" {escape(search.split)} split, in one run."
    arms = {"winner": WINNER, "baseline": findings.study.baseline}
    means = {name: findings.evidence.mean(findings.metric, arm) for name, arm in arms.items()}
    if WINNER in findings.study.arms and all(mean.n for mean in means.values()):
        shown = " and ".join(f"{mean.text('.3f')} ({name})" for name, mean in means.items())
        split = escape(findings.config.split)
        text += f" On fresh seeds and the {split} split, the means of {escape(findings.metric)} are {shown}, with 95 %"
        text += " intervals."
    return text


def _importances(search: Search) -> list[Block]:
    if len(search.space) == 1:
        return []
    if not search.importances:
        return [Paragraph("Importances could not be computed from these trials.")]
    ordered = sorted(search.importances.items(), key=lambda importance: -importance[1])
    rows = [[f"{100 * share:.0f} %", escape(key)] for key, share in ordered]
    about = f"The share of the variance of {escape(search.metric.name)} over finished trials that each value explains."
    return [Table(["importance", "of"], rows, "search_importances", about)]


def _cost(search: Search) -> list[Block]:
    """Return what trials spent by state, and what pruning saved."""
    table = Table(["trials", "number", "samples", "training FLOPs", "hours"], name="search_cost")
    for name, trials in [*((state, search.in_state(state)) for state in STATES), ("all", search.trials)]:
        if trials:
            spent = cost_of(trials)
            hours = "not measured" if spent["seconds"] is None else f"{spent['seconds'] / 3600:.3f}"
            table.rows.append([name, str(len(trials)), f"{spent['samples']:,}", f"{spent['flops']:.3g}", hours])
    saved, pruned = _saved(search), search.in_state("pruned")
    if not pruned:
        return [table]
    whole = sum(trial.budget for trial in (*search.finished, *pruned))
    text = (
        f"Pruned trials trained on {sum(trial.samples for trial in pruned):,} of"
        f" {sum(trial.budget for trial in pruned):,} samples. Pruning saved {saved:,} samples,"
        f" {100 * saved / whole:.0f} % of those that all finished and pruned trials would have taken with whole"
        " budgets."
    )
    return [table, Paragraph(text)]


def _saved(search: Search) -> int:
    """Return the samples of pruned trials' budgets on which they did not train. A trial with a note has diverged."""
    return sum(max(0, trial.budget - trial.samples) for trial in search.in_state("pruned") if not trial.note)


def cost_of(trials: Sequence[Trial]) -> dict[str, float | None]:
    """Return the cost of trials; seconds are None if they were not measured in one of them."""
    seconds = [trial.seconds for trial in trials]
    known = [value for value in seconds if value is not None]
    return {
        "samples": sum(trial.samples for trial in trials),
        "flops": sum(trial.flops for trial in trials),
        "seconds": sum(known) if len(known) == len(seconds) else None,
    }


def _trials(search: Search) -> Table:
    metrics = [f"{metric.name} [{metric.unit}]" if metric.unit else metric.name for metric in search.metrics]
    measured = [escape(name) for name in (*(dimension.name for dimension in search.space), *metrics)]
    columns = ["trial", "state", *measured, "samples", "of its budget", "run", "note"]
    table = Table(columns, name="search_trials")
    for trial in sorted(search.trials, key=lambda trial: trial.number):
        state = f"{trial.state}, winner" if trial.number == search.winner else trial.state
        share = f"{100 * trial.samples / trial.budget:.0f} %" if trial.budget else ""
        run = code_span(trial.run) if trial.run else ""
        cells = _cells(search, trial)
        table.rows.append([str(trial.number), state, *cells, f"{trial.samples:,}", share, run, escape(trial.note)])
    return table


def _cells(search: Search, trial: Trial) -> list[str]:
    """Return the point of a trial and its values, which only finished trials have."""
    values_of = ((dimension, trial.params.get(dimension.name)) for dimension in search.space)
    point = ["" if value is None else escape(dimension.text(value)) for dimension, value in values_of]
    values = (trial.state == "finished" and trial.values) or [None] * len(search.metrics)
    return [*point, *(_number(value) if value is not None else "" for value in values)]


def _number(value: float) -> str:
    """Return a value with four decimals, or three digits of a large one."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"
