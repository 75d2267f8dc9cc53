"""SLURM's queue: runs that another launch will do, and the jobs of a cancelled launch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablations.request import Request
from aimv2.errors import UsageError
from sweeps.active_launches import ActiveLaunch, active_launches, attempts_at_launch, cancelled, end
from sweeps.executors import slurm_commands
from sweeps.executors.slurm_jobs import launched_request
from sweeps.tasks import Task, TaskList


@dataclass
class QueuedElsewhere:
    """Runs that other launches have in the queue.

    Attributes:
        runs: names of the runs that their workers will do.
        arrays: ids of those workers' arrays.
        described: a sentence per launch.
        is_reported: True if one of them will write the same report.
    """

    runs: set[str] = field(default_factory=set)
    arrays: list[str] = field(default_factory=list)
    described: list[str] = field(default_factory=list)
    is_reported: bool = False


def queued_elsewhere(request: Request, tasks: Sequence[Task], runs_dir: Path) -> QueuedElsewhere:
    """Return which of these tasks other launches have in the queue."""
    found = QueuedElsewhere()
    for active in active_launches(runs_dir):
        if active.jobs is None or cancelled(active.folder) is not None:
            continue
        queued = {job.array for job in slurm_commands.queue(active.folder.name) or []}
        if arrays := [array for array in active.jobs.arrays if array in queued]:
            after = attempts_at_launch(active.folder)
            common = [replace(task, after=after[task.name]) for task in tasks if task.name in after]
            now = TaskList(common, runs_dir).look()
            if shared := {task.name for task in (*now.free, *now.unsure, *now.held)}:
                are = "run is" if len(shared) == 1 else "runs are"
                found.described.append(f"{len(shared)} {are} in the queue already, for {active.jobs.described}")
                found.runs |= shared
                found.arrays += arrays
                found.is_reported |= (
                    active.study == request.folder and launched_request(active.folder).cells == request.cells
                )
    return found


def withdraw(active: ActiveLaunch) -> str:
    """Withdraw a cancelled launch's waiting workers, and its finalizer job if no worker runs.

    Returns:
        The jobs that stay in the queue, with the reason; empty if none does.
    """
    jobs = active.jobs
    if jobs is None:
        return ""
    found = slurm_commands.queue(active.folder.name)
    if found is None:
        return f"{jobs.described}: SLURM does not answer; cancel again when it does"
    try:
        elements = [job for job in found if job.array in jobs.arrays]
        if pending := {job.array for job in elements if job.state == "PENDING"}:
            slurm_commands.command("scancel", "--state=PENDING", *sorted(pending))
        if jobs.finalizer and all(job.state == "PENDING" for job in elements):
            slurm_commands.command("scancel", jobs.finalizer)
            end(active.folder)
    except UsageError as error:  # another user's; when they start they find nothing to do
        return f"{jobs.described}: {error}"
    return ""


def abandoned(runs_dir: Path) -> list[Path]:
    """Return the folders of one's own launches that have no job in the queue any more, as after a scancel of all."""
    return [
        active.folder
        for active in active_launches(runs_dir)
        if active.jobs is not None
        and active.jobs.finalizer
        and slurm_commands.queue_of(active.folder, active.jobs.cluster) == []
    ]


def end_abandoned(runs_dir: Path) -> None:
    """Delete the folders of abandoned launches."""
    for folder in abandoned(runs_dir):
        end(folder)
