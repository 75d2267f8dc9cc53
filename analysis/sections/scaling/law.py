"""A fitted scaling law as parts of a document, for studies and for tables of any source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aimv2.analysis.document.model import Block, Bullets, Figure, Paragraph, Table
from aimv2.analysis.figures.scaling import draw_scaling
from aimv2.analysis.inference.intervals import Estimate
from aimv2.analysis.inference.scaling.assess import ScalingLaw
from aimv2.analysis.inference.scaling.bootstrap import bounds, digits, draws_settings
from aimv2.analysis.inference.scaling.comparison import why_no_blocks
from aimv2.analysis.inference.scaling.frontier import RANGE, Cost, Frontier
from aimv2.base.markdown import escape

MISFIT = "The form does not fit the runs."
NUM_BUDGETS = 5  # of the frontier's table


@dataclass(frozen=True, eq=False)
class Fitted:
    """What is shown of a law.

    Attributes:
        labels: what ``n``, ``d`` and ``loss`` are, with units, as plain text for axes and headings.
        meanings: the same by ``n``, ``d`` and ``L``, as plain text that continues "n is".
        cost, frontier: None with one variable, or with a form that has no frontier.
    """

    law: ScalingLaw
    labels: Mapping[str, str]
    meanings: Mapping[str, str]
    cost: Cost | None = None
    frontier: Frontier | None = None


def law_blocks(fitted: Fitted) -> list[Block]:
    """Return the test of the forms, the parameters, warnings and the frontier of a law."""
    warnings = fitted.law.warnings
    told: list[Block] = [Paragraph("Warnings:"), Bullets(warnings)] if warnings else []
    return [_forms(fitted.law), _parameters(fitted), *told, *_frontier(fitted)]


def conclusion(fitted: Fitted) -> str:
    """Return the law with its numbers, its error on the held-out runs, what speaks against it, and its symbols."""
    law = fitted.law
    values = ", ".join(f"{name} = {value:.4g}" for name, value in law.law.parameters.items())
    tested = f"Held-out error: {_error(law.chosen.error)}." if law.chosen.error.n else "Its form is not tested."
    doubtful = ", ".join(law.bootstrap.unidentified)
    text = f"L = {law.law.form.text} with {values}. {tested}" + (f" Not identified: {doubtful}." if doubtful else "")
    text += f" {MISFIT}" if law.misfit.is_shown else ""
    return f"{text} Here {_meanings(fitted)}."


def law_figure(fitted: Fitted) -> Figure:
    """Draw the law beside its runs, and its errors. Called in the context ``style``."""
    bootstrap = fitted.law.bootstrap
    caption = f"Fitted: {fitted.law.law.form.text}. {_meanings(fitted)}."
    caption += f" {MISFIT}" if fitted.law.misfit.is_shown else ""
    if fitted.frontier is not None:
        caption += (
            f" The dashed line is the smallest predicted loss for given FLOPs; the band is its"
            f" {100 * bootstrap.level:.0f} % interval. Where it leaves the runs, it extrapolates."
        )
    if fitted.law.chosen.tested:
        caption += f" Right: errors of a fit without the open points, the runs with {fitted.law.split.text}."
    drawn = draw_scaling(fitted.law, fitted.labels, fitted.cost, fitted.frontier)
    return Figure("scaling_law", "Loss against training compute with the fitted law", caption, *drawn)


def _forms(law: ScalingLaw) -> Table:
    """Return every form with its error on the held-out runs."""
    table = Table(["form", "parameters", "held-out error", "note"], name="scaling_forms")
    for trial in law.trials:
        name = f"`{trial.form.text}`"
        table.rows.append(
            [
                f"**{name}**" if trial is law.chosen else name,
                str(len(trial.form.parameters)),
                _error(trial.error) if trial.error.n else "",
                trial.reason,
            ]
        )
    held_out = f"Held out: runs with {law.split.text}; the forms are fitted to the {len(law.split.fitted)} others."
    caption = (held_out if law.split.text else "No run is held out: too few levels would remain.") + (
        f"{_on_errors(law)} The bold form was named before the fit."
    )
    if not math.isnan(law.misfit.p):
        caption += f" One run's noise in a setting is {100 * law.misfit.noise_sd:.2f} %."
    return replace(table, caption=caption)


def _on_errors(law: ScalingLaw) -> str:
    """Return what the held-out errors and their intervals are, or why there are none; empty without errors."""
    if not any(trial.error.n for trial in law.trials):
        return ""
    text = " The error is the root mean square of log loss minus log prediction"
    if any(trial.error.has_interval for trial in law.trials):
        return f"{text}; its interval is that of the jackknife over seeds."
    return f"{text}. It has no interval, because {why_no_blocks(law.runs)}."


def _parameters(fitted: Fitted) -> Table:
    law, bootstrap, reason = fitted.law.law, fitted.law.bootstrap, why_no_blocks(fitted.law.runs)
    resampled = "with resampled noise of " + (
        f"runs, and none of seeds, because {reason}" if reason else "seeds and runs"
    )
    if draws_settings(law, fitted.law.runs):
        resampled = "to settings drawn with replacement"
    table = Table(
        ["parameter", "estimate", f"{100 * bootstrap.level:.0f} % interval", "identified"],
        name="scaling_parameters",
        caption=(
            f"{_meanings(fitted)}. Intervals are percentiles of"
            f" {len(bootstrap.draws)} refits {resampled}. The Huber loss is linear"
            f" beyond relative residuals of {law.huber:.2g}."
        ),
    )
    for name, value in law.parameters.items():
        is_identified = "yes" if bootstrap.identified[name] else "no"
        interval = bounds(*bootstrap.interval(name))
        table.rows.append([name, f"{value:.4g}", interval, is_identified])
    return table


def _meanings(fitted: Fitted) -> str:
    names = ["L", *fitted.law.law.form.variables]
    return "; ".join(f"{name} is {escape(fitted.meanings[name])}" for name in names)


def _frontier(fitted: Fitted) -> list[Block]:
    frontier, cost = fitted.frontier, fitted.cost
    if cost is None:
        return []
    if frontier is None:
        return [Paragraph("There is no compute-optimal frontier: a term of the law is 0.")]
    columns = [
        "training FLOPs",
        f"optimal {escape(fitted.labels['n'])}",
        f"optimal {escape(fitted.labels['d'])}",
        "loss",
        "within runs",
    ]
    rows: list[list[str]] = []
    last = len(frontier.table) - 1
    for place in range(NUM_BUDGETS):
        row = frontier.table.iloc[round(place * last / (NUM_BUDGETS - 1))]
        cells = [_optimum(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("n", "d", "loss")]
        rows.append([f"{row['flops']:.2e}", *cells, "yes" if row["is_inside"] else "no, extrapolated"])
    slope, low, high = frontier.slope
    caption = (
        f"Compute-optimal size and data with {100 * fitted.law.bootstrap.level:.0f} % intervals. {cost.text}. At the"
        f" largest budget, the optimal n grows as FLOPs^{slope:.2f} {bounds(low, high)}."
    )
    if frontier.num_without:
        caption += f" {frontier.num_without} of {frontier.num_draws} refits have no optimum and are left out."
    if frontier.num_outside:
        caption += (
            f" {frontier.num_outside} of {frontier.num_draws} refits have an optimum more than {RANGE[1]:g} times"
            " beyond the sizes of the runs. Intervals leave them out and are too narrow."
        )
    return [Table(columns, rows, "scaling_frontier", caption)]


def _optimum(value: float, low: float, high: float) -> str:
    """Return an optimum with its interval; without a value it is beyond the sizes that are searched."""
    return f"{digits(value)} {bounds(low, high)}" if math.isfinite(value) else "beyond the search"


def _error(error: Estimate) -> str:
    """Return an error on held-out runs in per cent; it is not negative, whatever its interval."""
    if not error.has_interval:
        return f"{100 * error.mean:.2f} % (no interval)"
    return f"{100 * error.mean:.2f} % [{100 * max(error.low, 0):.2f} %, {100 * error.high:.2f} %]"


def law_numbers(fitted: Fitted) -> dict[str, Any]:
    """Return the law as JSON values."""
    law, bootstrap = fitted.law, fitted.law.bootstrap

    def value(mean: float, low: float, high: float, unit: str) -> dict[str, Any]:
        n = len(law.runs)
        return {"mean": mean, "low": low, "high": high, "level": bootstrap.level, "n": n, "unit": unit}

    found: dict[str, Any] = {
        "form": law.law.form.text,
        "labels": dict(fitted.labels),
        "parameters": {
            name: value(mean, *bootstrap.interval(name), "") | {"is_identified": bootstrap.identified[name]}
            for name, mean in law.law.parameters.items()
        },
        "refits": {"converged": len(bootstrap.draws), "failed": bootstrap.num_failed},
        "held_out": {"runs": law.split.text, "num_runs": len(law.split.held_out)},
        "forms": {
            trial.form.text: value(trial.error.mean, trial.error.low, trial.error.high, "log loss")
            | {"reason": trial.reason}
            for trial in law.trials
        },
        "lack_of_fit": {"noise": law.misfit.noise_sd, "misfit": law.misfit.misfit_sd, "p": law.misfit.p},
        "warnings": law.warnings,
    }
    if fitted.frontier is not None and fitted.cost is not None:
        found["cost"] = {"fixed": fitted.cost.fixed, "per_size": fitted.cost.per_size, "text": fitted.cost.text}
        found["frontier"] = fitted.frontier.table.to_dict("records")
        found["frontier_slope"] = value(*fitted.frontier.slope, "")
        found["frontier_refits"] = {
            "drawn": fitted.frontier.num_draws,
            "without_optimum": fitted.frontier.num_without,
            "outside_search": fitted.frontier.num_outside,
        }
    return found
