"""SLURM's queue: runs that another launch will do, and the jobs of a cancelled launch."""

from dataclasses import dataclass, field
from pathlib import Path

from aimv2.base.errors import UsageError
from sweeps.active_launches import ActiveLaunch, active_launches, cancelled, end
from sweeps.executors import slurm_commands
from sweeps.tasks import TaskList, Work, read_work


@dataclass
class QueuedElsewhere:
    """Runs that other launches have in the queue.

    Attributes:
        runs: names of the runs that their workers will do.
        arrays: ids of those workers' arrays.
        described: a sentence per launch.
        is_reported: True if one of them will do all the runs and write the report of the same study.
    """

    runs: set[str] = field(default_factory=set)
    arrays: list[str] = field(default_factory=list)
    described: list[str] = field(default_factory=list)
    is_reported: bool = False


def queued_elsewhere(study: str, work: Work, runs_dir: Path) -> QueuedElsewhere:
    """Return which runs of this work other launches have in the queue, given the folder name of their study.

    Trials that were not drawn yet are in no queue: launches of one search share them out as they go.
    """
    found, names = QueuedElsewhere(), set(work.runs)
    for active in active_launches(runs_dir):
        if active.jobs is None or cancelled(active.folder) is not None:
            continue
        queued = {job.array for job in slurm_commands.queue(active.folder.name) or []}
        if arrays := [array for array in active.jobs.arrays if array in queued]:
            common = [task for task in read_work(active.folder).tasks if task.name in names]
            now = TaskList(common, runs_dir).look()
            if shared := {task.name for task in (*now.free, *now.unsure, *now.held)}:
                are = "run is" if len(shared) == 1 else "runs are"
                found.described.append(f"{len(shared)} {are} in the queue already, for {active.jobs.described}")
                found.runs |= shared
                found.arrays += arrays
                found.is_reported |= active.study == study and shared == {task.name for task in work.tasks}
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
