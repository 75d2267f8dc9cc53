"""Progress of a sweep, read from its run folders and, for a launch on SLURM, from the queue. Nothing is written."""

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from ablations.expand import Cell
from ablations.request import Request
from aimv2.errors import Cause
from aimv2.runs.lease import HEARTBEAT_SECONDS, holder, last_heartbeat, latest_attempt
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import last_rows, loss_of, losses_of, row_at
from sweeps.active_launches import ActiveLaunch, Jobs, active_launches, num_waiting
from sweeps.executors.slurm_commands import Queued, queue_of
from sweeps.plan import Plan
from sweeps.pricing.recorded import recent_speeds

MAX_OTHER_SEEDS = 4
SLOW = 0.5  # share of the other seeds' speed below which a run is a straggler
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS

RunState = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Progress of a run.

    Attributes:
        state: ``failed`` was tried and has no owner at present; ``waiting`` was not tried, or was interrupted.
        samples: number trained on so far, of ``budget``.
        images_per_second: at the last reading.
        seconds_left: of training.
        loss: first training loss at the last reading.
        losses: all training losses at the last reading, for display.
        loss_against_other_seeds: ``loss`` minus the median loss of other seeds of the arm at that step.
        host: where its worker runs.
        cause: of a failure.
        note: what it waits for, why it failed, or what looks wrong.
    """

    run: str
    arm: str
    seed: int
    state: RunState
    samples: int
    budget: int
    images_per_second: float | None = None
    seconds_left: float | None = None
    loss: float | None = None
    losses: str = ""
    loss_against_other_seeds: float | None = None
    host: str = ""
    cause: Cause | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """Progress of a sweep.

    Attributes:
        question: of its study.
        num_launches: number of its active launches.
        queue: state of the jobs of each launch on SLURM, in words.
        runs: in the order of the sweep's cells.
        report: path of its report, if there is one and no launch is active.
    """

    name: str
    question: str = ""
    num_launches: int
    queue: list[str]
    runs: list[RunStatus]
    report: str = ""

    def count(self, state: RunState) -> int:
        return sum(run.state == state for run in self.runs)

    @property
    def samples(self) -> int:
        return sum(run.samples for run in self.runs)

    @property
    def budget(self) -> int:
        return sum(run.budget for run in self.runs)

    @property
    def seconds_left(self) -> float | None:
        """Training time left if the active runs keep their speed and others follow them; None if no run is active."""
        speed = sum(run.images_per_second or 0.0 for run in self.runs if run.state == "running")
        return (self.budget - self.samples) / speed if speed else None


def sweep_status(request: Request, runs_dir: Path) -> SweepStatus:
    """Return the progress of a request's runs, with the question and the report of its study."""
    status = plan_status(Plan(request.folder, request.cells, runs_dir))
    report = "" if status.num_launches else _report(request)
    return replace(status, question=request.study.question, report=report)


def plan_status(plan: Plan) -> SweepStatus:
    """Return the progress of a plan's runs. A run that several cells share is listed with one of them."""
    cells = plan.cell_of.values()
    launches = [active for active in active_launches(plan.runs_dir) if active.study == plan.title]
    queues = {one.folder: queue_of(one.folder, one.jobs.cluster) for one in launches if one.jobs is not None}
    active = [one for one in launches if queues.get(one.folder) != []]
    reason = _why_waiting(active, plan.runs_dir / "workers", plan.title)
    return SweepStatus(
        name=plan.title,
        num_launches=len(active),
        queue=[in_queue(one.jobs, queues[one.folder]) for one in launches if one.jobs is not None],
        runs=[_run_status(cell, cells, plan.runs_dir, reason) for cell in cells],
    )


def _report(request: Request) -> str:
    folders = [word.partition("=")[2] for word in request.arguments if word.startswith("reports_dir=")]
    path = Path(folders[-1] if folders else "reports") / request.folder / "report.md"
    return str(path) if path.exists() else ""


def in_queue(jobs: Jobs, queued: Sequence[Queued] | None) -> str:
    """Count a launch's jobs by state and reason, in words.

    Args:
        queued: its jobs in the queue (``sweeps.executors.slurm_commands.queue_of``).
    """
    workers = jobs.described
    if queued is None:
        return f"{workers}: UNKNOWN, squeue does not answer on this host"
    if not queued:
        return f"{workers}: no job of it is in SLURM's queue any more; launch the sweep again"
    counts = Counter(
        f"{job.state} ({job.reason})" if job.reason not in ("None", "") else job.state
        for job in queued
        if job.array in jobs.arrays
    )
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{workers}: {states or 'ended, the finalizer job writes the report'}"


def _why_waiting(active: Sequence[ActiveLaunch], logs: Path, name: str) -> str:
    if not active:
        last = max(logs.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
        where = "" if last is None else f"; the logs of its last workers on SLURM are in {last}"
        return f"no active launch of this sweep{where}"
    waiting = sum(map(num_waiting, active))
    more = f"; workers waiting for a free core or GPU: {waiting}" if waiting else ""
    return f"no free worker yet{more}"


def _run_status(cell: Cell, cells: Iterable[Cell], runs_dir: Path, waits: str) -> RunStatus:
    run, budget = RunFolder(runs_dir, cell.name), cell.config.budget.samples
    new = RunStatus(run=cell.name, arm=cell.arm, seed=cell.seed, state="waiting", samples=0, budget=budget, note=waits)
    if (state := run.state()) == "done":
        return replace(new, state="done", samples=budget, note="")
    row = run.last_row()
    if state == "running":
        return _running(new, row, _other_seeds(cell, cells, runs_dir), runs_dir)
    if (failure := run.failure()) is None:
        return new
    samples = row.get("samples", 0)
    if failure.cause == "time":
        note = f"interrupted after {samples:,} samples, resumes from its checkpoint; {waits}"
        return replace(new, samples=samples, note=note)
    return replace(new, state="failed", samples=samples, cause=failure.cause, note=failure.message)


def _running(new: RunStatus, row: dict[str, float], others: list[Path], runs_dir: Path) -> RunStatus:
    samples, speed = int(row.get("samples", 0)), row.get("images_per_second")
    attempt = latest_attempt(runs_dir / new.run)
    assert attempt is not None
    notes = []
    if (silent := time.time() - last_heartbeat(attempt)) > SILENT_SECONDS:
        notes.append(f"no heartbeat for {silent:.0f} s")
    medians = [statistics.median(speeds) for attempt in others if (speeds := recent_speeds(attempt))]
    if speed and medians and speed < SLOW * (usual := statistics.median(medians)):
        notes.append(f"a straggler: {speed:.0f} images/s, other seeds {usual:.0f}")
    if not row:
        notes.append("starting")
    elif samples >= new.budget:
        notes.append("evaluating")
    return replace(
        new,
        state="running",
        samples=samples,
        images_per_second=speed,
        seconds_left=(new.budget - samples) / speed if speed else None,
        loss=loss_of(row),
        losses=losses_of(row),
        loss_against_other_seeds=_against(others, row),
        host=str(holder(attempt).get("host", "")).partition("/")[0],
        note="; ".join(notes),
    )


def _other_seeds(cell: Cell, cells: Iterable[Cell], runs_dir: Path) -> list[Path]:
    """Return attempts of other seeds of the arm that have metrics."""
    names = (other.name for other in cells if other.arm == cell.arm and other.name != cell.name)
    attempts = (RunFolder(runs_dir, name).measured() for name in names)
    return list(islice((attempt for attempt in attempts if attempt and last_rows(attempt)), MAX_OTHER_SEEDS))


def _against(others: list[Path], row: dict[str, float]) -> float | None:
    """Return the row's loss minus the median loss of others at its step, if both are known."""
    loss = loss_of(row)
    rows = [found for attempt in others if (found := row_at(attempt, int(row.get("step", -1)))) is not None]
    losses = [other for found in rows if (other := loss_of(found)) is not None]
    return loss - statistics.median(losses) if loss is not None and losses else None
