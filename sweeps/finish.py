"""The end of a launch: what no worker does, why runs have no result, and the report."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.request import read_request
from sweeps.plan import Plan
from sweeps.status.board import print_failures
from sweeps.tasks import Work


def finish(plan: Plan, work: Work, reports_dir: Path | None, console: Console) -> bool:
    """Finish a launch whose tasks are over, and write the report on its study, other launches of that included.

    Args:
        reports_dir: None for runs of no study, which have no report.

    Returns:
        True if each of its runs is done and it lacks nothing else.
    """
    from analysis.report import build
    from analysis.stamps import is_current

    confirmed = work.finish(plan.runs_dir, console)
    plan = replace(plan, cells=[*plan.cells, *confirmed])
    own = {*work.runs, *(cell.name for cell in confirmed)}
    has_failed = print_failures(console, plan, own)
    if reports_dir is None:
        return not has_failed
    if waiting := set(plan.remaining()) - own:
        console.print(f"runs that are still missing: {len(waiting)}; launch the sweep again to execute them")
    request = read_request(plan.runs_dir, plan.title, STUDIES, like=plan.cells)
    if not work.tasks and is_current(request, plan.runs_dir, reports_dir):
        shown = f"{reports_dir / request.folder / 'report.md'}, as it was"
    else:
        shown = str(build(request, plan.runs_dir, reports_dir))
    console.print(f"report: {shown}", soft_wrap=True)
    return work.is_complete(plan.runs_dir) and not has_failed
