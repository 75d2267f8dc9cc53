"""Progress of a sweep, read from its run folders and, for a launch on a scheduler, from the queue. Nothing is
written."""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.run_config import program_of
from aimv2.runs.record import entries
from aimv2.sweeps.active_launches import LOGS, ActiveLaunch, Jobs, Queued, active_launches
from aimv2.sweeps.machine import in_use
from aimv2.sweeps.plan import Plan, Trials, code_note
from aimv2.sweeps.status.runs import Looks, RunReader, RunStatus

NO_TRIALS = Trials()
SINGLE = "train"  # the name of single runs; their launches on SLURM have it too
MAX_SINGLE = 20
# Returns a launch's jobs in the queue of its scheduler; None if that does not answer.
QueueOf = Callable[[ActiveLaunch], Sequence[Queued] | None]


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """Progress of a sweep."""

    name: str
    question: str = ""  # of its study, as is the baseline
    baseline: str = ""
    num_launches: int  # active ones
    queue: list[str]  # state of the jobs of each launch on a scheduler, in words
    trials: str = ""  # number of a search's trials by state, in words
    runs: list[RunStatus]  # in the order of the sweep's cells
    waits: str = ""  # why runs wait
    code: str = ""  # which code done runs are of, if it differs
    report: str = ""  # path of its report, if there is one and no launch is active

    @property
    def is_active(self) -> bool:
        """True if something is about to change."""
        return self.num_launches > 0 or any(run.state == "running" for run in self.runs)


def plan_status(
    plan: Plan,
    reader: RunReader | None = None,
    looks: Looks | None = None,
    *,
    queue_of: QueueOf,
    trials: Trials = NO_TRIALS,
) -> SweepStatus:
    """Return the progress of a plan's runs, and of the unpruned trials of its search. A run that several cells share is
    listed with one of them. Question and report are those of the last of its requests.
    """
    reader, looks, requested = reader or RunReader(), looks or Looks(), plan.cell_of
    plan = replace(plan, cells=[*plan.cells, *trials.cells])
    found = reader.entries(plan, looks)
    open_runs = {name for name in requested if name not in found or found[name].state != "done"}
    every = active_launches(plan.runs_dir)
    # A launch of another study does what this one lacks too, as with sensitivity=auto.
    launches = [one for one in every if one.study == plan.title or (open_runs and open_runs <= one.runs)]
    queues = {one.folder: queue_of(one) for one in launches if one.jobs is not None}
    active = [one for one in launches if queues.get(one.folder) != []]

    def does(launch: ActiveLaunch, name: str) -> bool:
        is_trial = launch.study == plan.title and name not in requested  # no launch names these before they start
        return queues.get(launch.folder) != [] and (is_trial or name in launch.runs)

    request = plan.requests[-1] if plan.requests else None
    report = request.reports_dir / request.folder / "report.md" if request and not active else None
    return SweepStatus(
        name=plan.title,
        question=request.study.question if request else "",
        baseline=request.study.baseline if request else "",
        num_launches=len(active),
        queue=[in_queue(one.jobs, queues[one.folder]) for one in launches if one.jobs is not None],
        trials=trials.described,
        runs=reader.read(
            plan, found, looks, {name: [one for one in every if does(one, name)] for name in plan.cell_of}
        ),
        waits=_waits(active) if active else _no_launch(plan.runs_dir / LOGS, plan.title),
        code=code_note(found, plan.cell_of, is_allowed=request is not None and request.study.allow_mixed_code),
        report=str(report) if report and report.exists() else "",
    )


def single_status(
    runs_dir: Path, others: Collection[str], reader: RunReader, looks: Looks, *, queue_of: QueueOf
) -> SweepStatus | None:
    """Return the progress of runs of ``python -m aimv2 train``; None if there are none.

    MAX_SINGLE are shown; active ones come first, and done ones last.
    """
    found = {name: entry for name, entry in entries(runs_dir).items() if name not in others}
    order = sorted(found, key=lambda name: (("running", "failed", "idle", "done").index(found[name].state), name))
    cells = []
    for name in order[:MAX_SINGLE]:
        with contextlib.suppress(UsageError):  # it has just begun, or is of a version that this one cannot read
            config = program_of(read_json(runs_dir / name / "config.json"))
            cell = Cell(arm=config.title, seed=config.seed, config=config)
            cells += [cell] if cell.name == name else []  # this version may name it differently
    if not cells:
        return None
    status = plan_status(Plan(SINGLE, cells, runs_dir), reader, looks, queue_of=queue_of)
    more = f"{len(found) - len(cells)} more single runs are not shown" if len(found) > len(cells) else ""
    waits = status.waits if status.num_launches else "type the same command again to resume it"
    return replace(status, question="single runs, of no study", waits=waits, code=more)


def in_queue(jobs: Jobs, queued: Sequence[Queued] | None) -> str:
    """Count a launch's jobs in the queue by state and reason, in words."""
    workers = jobs.described
    if queued is None:
        return f"{workers}: UNKNOWN, {jobs.executor} does not answer on this host"
    if not queued:
        return f"{workers}: no job of it is in the queue of {jobs.executor} any more; launch the sweep again"
    counts = Counter(
        f"{job.state} ({job.reason})" if job.reason not in ("None", "") else job.state
        for job in queued
        if job.array in jobs.arrays
    )
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{workers}: {states or 'ended, the finalizer job writes the report'}"


def _waits(active: Sequence[ActiveLaunch]) -> str:
    held = in_use() if any(one.jobs is None and one.host == socket.gethostname() for one in active) else ""
    return "no worker, core, GPU or memory is free yet" + f"; in use on this host: {held}" * bool(held)


def _no_launch(logs: Path, name: str) -> str:
    last = max(logs.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
    where = "" if last is None else f"; the logs of its last workers are in {last}"
    return f"no active launch of this sweep, so launch it again{where}"
