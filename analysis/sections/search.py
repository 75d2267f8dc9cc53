"""The search behind a confirmation: its trials, what they cost, and how the winner was chosen."""

from collections.abc import Sequence
from typing import Any

from aimv2.ablations.study import WINNER
from aimv2.analysis.document.model import Block, Paragraph, Section, Table, code_span
from aimv2.analysis.evidence.searches import Dimension, Search, State, Trial
from aimv2.analysis.judgement.confirmation import result
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.numbers import estimate
from aimv2.base.markdown import escape

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
    if search.finished:
        blocks += [*(_front(search) if len(search.metrics) > 1 else []), *_importances(search)]
    return Section("Search", [*blocks, *_cost(search), Section("All trials", [_trials(search)])])


def numbers(findings: Findings) -> dict[str, Any]:
    """Return the search and its confirmation as JSON values, by the key ``search``; empty for other studies."""
    search = findings.search
    if search is None:
        return {}
    confirmed = findings.comparisons.get(WINNER)
    found = {
        "result": result(findings),
        "confirmation": estimate(confirmed.difference, findings.unit) if confirmed else None,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
        "split": search.split,
        "metrics": [{"name": one.name, "direction": one.direction, "unit": one.unit} for one in search.metrics],
        "trials": {state: len(search.in_state(state)) for state in STATES},
        "winner": search.winner,
        "best_value": search.winning.value if search.winning else None,
        "front": list(search.front),
        "importances": dict(search.importances),
        "cost": {state: cost_of(search.in_state(state)) for state in STATES},
        "saved_samples": _saved(search),
    }
    return {"search": found}


def _about(search: Search) -> str:
    counts = [(state, len(search.in_state(state))) for state in STATES]
    states = ", ".join(f"{number} {state}" for state, number in counts if number)
    pruner = "without pruning" if search.pruner == "none" else f"pruner {code_span(search.pruner)}"
    aims = " and ".join(f"{one.direction} {escape(one.name)}" for one in search.metrics)
    num_trials = f"{len(search.trials)} trial{'s' * (len(search.trials) != 1)}"
    return (
        f"The search varied {'; '.join(map(range_of, search.space))}, to {aims} on the {escape(search.split)} split"
        f" (sampler {code_span(search.sampler)}, {pruner}, seed {search.seed}). It has"
        f" {num_trials}{f': {states}' if states else ''}."
    )


def range_of(one: Dimension) -> str:
    """Return a dimension with its range or its levels."""
    if one.levels is not None:
        return f"{escape(one.name)} ({', '.join(map(escape, one.levels.values()))})"
    return f"{escape(one.name)} ({one.low:g} to {one.high:g}{', logarithmic' * one.log})"


def _chosen(findings: Findings, search: Search) -> str:
    """Return the winner's point with what the search measured, and what the confirmation measured."""
    if search.winning is None:
        return "It has no winner." if search.finished else "It has no winner, since no trial has finished."
    params = ", ".join(
        f"{escape(one.name)} = {escape(one.text(search.winning.params[one.name]))}" for one in search.space
    )
    measured = ", ".join(
        f"{escape(metric.name)} {_number(value)} {escape(metric.unit)}".rstrip()
        for metric, value in zip(search.metrics, search.winning.values or (), strict=True)
    )
    several = f", the best of the Pareto front in {escape(search.metric.name)}" * (len(search.metrics) > 1)
    itself = ", which is the baseline itself" * search.is_baseline
    text = f"The winner is trial {search.winner}{several}{itself}: {params}. The search measured {measured} on the"
    text += f" {escape(search.split)} split, in one run."
    means = {
        name: mean
        for name, arm in (("winner", WINNER), ("baseline", findings.study.baseline))
        if (mean := findings.evidence.mean(findings.metric, arm)).n
    }
    if WINNER in findings.study.arms and len(means) == 2:
        shown = " and ".join(f"{one.text('.3f')} ({name})" for name, one in means.items())
        split = escape(findings.config.split)
        text += f" On fresh seeds and the {split} split, the means of {escape(findings.metric)} are {shown}, with 95 %"
        text += " intervals."
    return text


def _importances(search: Search) -> list[Block]:
    name = escape(search.metric.name)
    if len(search.space) == 1:
        return []
    if not search.importances:
        return [Paragraph("Importances could not be computed from these trials.")]
    ordered = sorted(search.importances.items(), key=lambda one: -one[1])
    rows: list[list[str]] = [[f"{100 * share:.0f} %", escape(key)] for key, share in ordered]
    about = f"The share of the variance of {name} over finished trials that each value explains."
    return [Table(["importance", "of"], rows, "search_importances", about)]


def _front(search: Search) -> list[Block]:
    """Return the trials that no other one beats in every metric, the best one on top. Optuna's dashboard draws them."""
    first, *others = (escape(one.name) for one in search.metrics)
    about = (
        f"The Pareto front: no other trial is at least as good in {first}, {', '.join(others)} and better in one. The"
        f" winner is the best of the front in {first}."
    )
    on_front = sorted((one for one in search.finished if one.number in search.front), key=search.cost)
    rows = [_row(search, one) for one in on_front]
    return [Table(["trial", *_columns(search)], rows, "pareto_front", about)]


def _cost(search: Search) -> list[Block]:
    """Return what trials spent by state, and what pruning saved."""
    table = Table(["trials", "number", "samples", "training FLOPs", "hours"], name="search_cost")
    for state in STATES:
        if own := search.in_state(state):
            table.rows.append(_cost_row(state, own))
    table.rows.append(_cost_row("all", search.trials))
    saved, pruned = _saved(search), search.in_state("pruned")
    if not pruned:
        return [table]
    whole = sum(one.budget for one in (*search.finished, *pruned))
    text = (
        f"Pruned trials trained on {sum(one.samples for one in pruned):,} of {sum(one.budget for one in pruned):,}"
        f" samples. Pruning saved {saved:,} samples, {100 * saved / whole:.0f} % of those that all finished and pruned"
        " trials would have taken with whole budgets."
    )
    return [table, Paragraph(text)]


def _saved(search: Search) -> int:
    """Return the samples of pruned trials' budgets on which they did not train. A trial with a note has diverged."""
    return sum(max(0, one.budget - one.samples) for one in search.in_state("pruned") if not one.note)


def cost_of(trials: Sequence[Trial]) -> dict[str, float | None]:
    """Return the cost of trials; seconds are None if they were not measured in one of them."""
    seconds = [one.seconds for one in trials]
    known = [one for one in seconds if one is not None]
    return {
        "samples": sum(one.samples for one in trials),
        "flops": sum(one.flops for one in trials),
        "seconds": sum(known) if len(known) == len(seconds) else None,
    }


def _cost_row(name: str, trials: Sequence[Trial]) -> list[str]:
    spent = cost_of(trials)
    hours = "not measured" if spent["seconds"] is None else f"{spent['seconds'] / 3600:.3f}"
    return [name, str(len(trials)), f"{spent['samples']:,}", f"{spent['flops']:.3g}", hours]


def _trials(search: Search) -> Table:
    columns = ["trial", "state", *_columns(search), "samples", "of its budget", "run", "note"]
    table = Table(columns, name="search_trials")
    for one in sorted(search.trials, key=lambda one: one.number):
        state = f"{one.state}, winner" if one.number == search.winner else one.state
        number, *cells = _row(search, one)
        share = f"{100 * one.samples / one.budget:.0f} %" if one.budget else ""
        run = code_span(one.run) if one.run else ""
        table.rows.append([number, state, *cells, f"{one.samples:,}", share, run, escape(one.note)])
    return table


def _columns(search: Search) -> list[str]:
    metrics = [f"{one.name} [{one.unit}]" if one.unit else one.name for one in search.metrics]
    return [escape(one) for one in (*(dimension.name for dimension in search.space), *metrics)]


def _row(search: Search, trial: Trial) -> list[str]:
    """Return the number of a trial, its point and its values, which only finished trials have."""
    point: list[str] = []
    for one in search.space:
        value = trial.params.get(one.name)
        shown = "" if value is None else escape(one.text(value))
        point.append(shown)
    values = (trial.state == "finished" and trial.values) or [None] * len(search.metrics)
    cells = [_number(value) if value is not None else "" for value in values]
    return [str(trial.number), *point, *cells]


def _number(value: float) -> str:
    """Return a value with four decimals, or three digits of a large one."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"
