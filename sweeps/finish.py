"""The end of a launch: what no worker does, why runs have no result, and the reports."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.sweeps.board import print_failures
from aimv2.sweeps.plan import Plan, Work


def finish(plan: Plan, work: Work, reports_dir: Path | None, console: Console) -> bool:
    """Finish a launch whose tasks are over, and write the reports on its studies, other launches of these included.

    Args:
        reports_dir: None for runs of no study, which have no report.

    Returns:
        True if each of its runs is done and it lacks nothing else.
    """
    confirmed = work.finish(plan.runs_dir, console)
    plan = replace(plan, cells=[*plan.cells, *confirmed])
    own = {*work.runs, *(cell.name for cell in confirmed)}
    has_failed = print_failures(console, plan, own)
    for problem in plan.broken_results():
        console.print(problem, style="red", soft_wrap=True, markup=False)
        has_failed = True
    if reports_dir is None:
        return not has_failed
    if waiting := set(plan.remaining()) - own:
        console.print(f"runs that are still missing: {len(waiting)}; launch the sweep again to execute them")
    from aimv2.analysis.report import build  # here, because a launch may write none

    for request in plan.requests:
        whole = read_request(plan.runs_dir, request.folder, STUDIES, like=request.cells)
        console.print(f"report: {build(whole, plan.runs_dir, reports_dir)}", soft_wrap=True)
    return work.is_complete(plan.runs_dir) and not has_failed
