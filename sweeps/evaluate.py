"""``python sweeps/manage.py evaluate STUDY metric=my.py:cka``: measure a metric of a plug-in on finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import Cell
from aimv2.ablations.measured import MeasuredMetric, write_measured
from aimv2.ablations.request import Request, read_request
from aimv2.base.errors import UsageError, count
from aimv2.base.files import share, writable_folder
from aimv2.base.plugins import check_loaded
from aimv2.run.reuse import WEIGHTS, ChosenMetric
from aimv2.runs.record import RunFolder
from aimv2.sweeps.freeze import freeze
from aimv2.sweeps.launch import check_cost, execute, relaunch
from aimv2.sweeps.parse import LaunchRequest, parse
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.plan_display import price_of

console = Console(highlight=False)


class Evaluation(NamedTuple):
    """What measures a metric on the finished runs of a study."""

    metric: MeasuredMetric
    plan: Plan  # the runs that measure it, each of a finished one
    left_out: Mapping[str, int]  # numbers of the other runs of the study, by the reason


def evaluate(request: Request, chosen: ChosenMetric, typed: str, values: Mapping[str, str]) -> int:
    """Measure a metric on each finished run of a study that lacks it, and write the report."""
    parsed = parse(relaunch(request, values))
    return _launch(parsed, planned(request, chosen, typed, parsed.plan.runs_dir))


def planned(request: Request, chosen: ChosenMetric, typed: str, runs_dir: Path) -> Evaluation:
    """Return the runs that measure a metric on all finished runs of a study, those of other launches included."""
    metric = MeasuredMetric(
        name=chosen.metric.name,
        unit=chosen.metric.unit,
        lower_is_better=chosen.metric.lower_is_better,
        plugin=chosen.plugin.id,
        digest=chosen.digest,
        typed=typed,
    )
    whole = read_request(runs_dir, request.folder, STUDIES, like=request.cells)
    left_out: dict[str, int] = {}
    cells = list[Cell]()
    for cell in {cell.name: cell for cell in whole.cells}.values():
        measuring = metric.cells([cell])
        if reason := _why_not(RunFolder(runs_dir, cell.name), cell, metric, measuring):
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            cells += measuring
    if not cells:
        each = "; ".join(f"{reason} ({number})" for reason, number in left_out.items())
        raise UsageError(f"metric={typed} cannot be measured on any run of {request.folder}: {each}")
    return Evaluation(metric, Plan(request.folder, cells, runs_dir, (request,)), left_out)


def _why_not(run: RunFolder, cell: Cell, metric: MeasuredMetric, measuring: Sequence[Cell]) -> str:
    """Return why a metric cannot be measured on a run; empty if it can."""
    if not run.is_done:
        return "not done"
    if problem := run.problem():
        return problem
    if metric.is_measured_by(cell):
        return f"it has {metric.name} itself"
    if not measuring:
        return f"runs of {cell.config.kind} keep no weights"
    try:
        check_loaded(measuring[0].config.plugins.values(), "it")
    except UsageError as error:
        return str(error)
    return "" if run.file(WEIGHTS).is_file() else "their weights are gone"


def _launch(parsed: LaunchRequest, found: Evaluation) -> int:
    metric, plan, is_dry_run = found.metric, found.plan, parsed.options.dry_run
    better = "lower" if metric.lower_is_better else "higher"
    console.print(
        f"{plan.title}: {metric.name} of {metric.typed} in {metric.unit}, {better} is better; evaluation"
        f" {metric.digest}",
        soft_wrap=True,
        markup=False,
    )
    if not is_dry_run:
        share(plan.runs_dir)
        writable_folder(str(plan.runs_dir), "runs_dir", needs_links=True)
        writable_folder(str(parsed.reports_dir), "reports_dir")
    remaining = plan.remaining(repair=not is_dry_run)
    plan.check_finished(())
    work = plan.work(remaining)
    console.print(f"{count(len(plan.runs), 'finished run')}, {len(remaining)} to measure", soft_wrap=True)
    for reason, number in found.left_out.items():
        console.print(f"note: {count(number, 'other run')} of the study: {reason}", soft_wrap=True, markup=False)
    if work.tasks:
        console.print(price_of(work.priced, parsed.clock, parsed.executor), soft_wrap=True)
    check_cost(parsed, work)
    if is_dry_run:
        return 0
    if work.tasks:
        freeze(plan.runs_dir)
    write_measured(plan.runs_dir, plan.title, metric, plan.runs)
    return execute(replace(parsed, plan=plan), work)
