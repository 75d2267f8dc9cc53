"""Where a sweep stands, read from its folders and, for a launch on SLURM, from the queue: nothing is written."""

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ablations.expand import Cell
from ablations.request import Request
from aimv2.errors import Cause
from aimv2.runs.lease import HEARTBEAT_SECONDS, holder, last_sign, latest_attempt
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import last_rows, loss_of, row_at
from sweeps.active_launches import ActiveLaunch, Jobs, active_launches, num_waiting
from sweeps.executors.slurm_commands import Queued, queue_of

MAX_SIBLINGS = 4
SPEED_BYTES = 65536  # of a sibling's metrics, from which its usual speed is taken: some two hundred rows
SLOW = 0.5  # a run that is slower than this share of its siblings' speed is a straggler
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS

State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run of a sweep.

    Attributes:
        state: ``failed`` was tried and is nobody's at present; ``waiting`` was not tried, or was asked to stop.
        samples: trained on so far, of ``budget``.
        images_per_second: at the last reading, or over the whole training of a run that is done.
        seconds_left: of training.
        loss: the training loss at the last reading.
        loss_against_siblings: minus the median of other seeds of the same arm at that step.
        host: who has it.
        cause: of a failure.
        note: what it waits for, why it failed, or what looks wrong.
    """

    run: str
    arm: str
    seed: int
    state: State
    samples: int
    budget: int
    images_per_second: float | None = None
    seconds_left: float | None = None
    loss: float | None = None
    loss_against_siblings: float | None = None
    host: str = ""
    cause: Cause | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """A sweep: its runs in the order of its cells, how many launches are at work on it, what SLURM says of each that is
    there, and once none is at work the path of its report, if there is one."""

    name: str
    question: str
    num_launches: int
    queue: list[str]
    runs: list[RunStatus]
    report: str

    def count(self, state: State) -> int:
        return sum(run.state == state for run in self.runs)

    @property
    def seconds_left(self) -> float | None:
        """Until all is trained, if the runs under way keep their speed and others follow them; None if none is."""
        speed = sum(run.images_per_second or 0.0 for run in self.runs if run.state == "running")
        left = sum(run.budget - run.samples for run in self.runs if run.state != "done")
        return left / speed if speed else None


def sweep_status(request: Request, runs_dir: Path) -> SweepStatus:
    """Read every run's folder; a run that several cells ask for stands in the first of them."""
    cells: dict[str, Cell] = {}
    for cell in request.cells:
        cells.setdefault(cell.name, cell)
    name = request.folder
    ours = [active for active in active_launches(runs_dir) if active.study == name]
    queues = {one.folder: queue_of(one.folder, one.jobs.cluster) for one in ours if one.jobs is not None}
    at_work = [active for active in ours if queues.get(active.folder) != []]
    waits = _why_waiting(at_work, runs_dir / "workers", name)
    return SweepStatus(
        name=name,
        question=request.study.question,
        num_launches=len(at_work),
        queue=[in_queue(one.jobs, queues[one.folder]) for one in ours if one.jobs is not None],
        runs=[_run_status(cell, cells.values(), runs_dir, waits) for cell in cells.values()],
        report="" if at_work else _report(request),
    )


def _report(request: Request) -> str:
    said = [word.partition("=")[2] for word in request.arguments if word.startswith("reports_dir=")]
    path = Path(said[-1] if said else "reports") / request.folder / "report.md"
    return str(path) if path.exists() else ""


def in_queue(jobs: Jobs, found: Sequence[Queued] | None) -> str:
    """How many of a launch's jobs are in which state, and why they are.

    Args:
        found: what is in the queue of it (``sweeps.executors.slurm_commands.queue_of``).
    """
    who = jobs.described
    if found is None:
        return f"{who}: UNKNOWN, for squeue cannot be asked from here"
    if not found:
        return f"{who}: no job of it is in SLURM's queue any more; launch the sweep again"
    counts = Counter(
        f"{job.state} ({job.reason})" if job.reason not in ("None", "") else job.state
        for job in found
        if job.array in jobs.arrays
    )
    return f"{who}: {', '.join(f'{count} {state}' for state, count in counts.items()) or 'ended, its report is due'}"


def _why_waiting(ours: Sequence[ActiveLaunch], logs: Path, name: str) -> str:
    if not ours:
        last = max(logs.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
        where = "" if last is None else f"; the logs of its last workers on SLURM are in {last}"
        return f"no launch of this sweep is at work{where}"
    without_slot = sum(map(num_waiting, ours))
    more = f"; workers that wait for a free core or GPU: {without_slot}" if without_slot else ""
    return f"waits for a worker{more}"


def _run_status(cell: Cell, cells: Iterable[Cell], runs_dir: Path, waits: str) -> RunStatus:
    run, budget = RunFolder(runs_dir, cell.name), cell.config.budget.samples
    state = run.state()
    if state == "done":
        return RunStatus(run=cell.name, arm=cell.arm, seed=cell.seed, state="done", samples=budget, budget=budget)
    row = run.last_row()
    samples = row.get("samples", 0)
    if state == "running":
        return _running(cell, cells, runs_dir, row)
    failure = run.failure()
    if failure is not None and failure.cause != "time":
        return RunStatus(
            run=cell.name, arm=cell.arm, seed=cell.seed, state="failed", samples=samples, budget=budget,
            cause=failure.cause, note=failure.message,
        )  # fmt: skip
    reasons = [waits]
    if failure is not None:
        reasons.insert(0, f"stopped after {samples:,} samples and goes on from its checkpoint")
    return RunStatus(
        run=cell.name, arm=cell.arm, seed=cell.seed, state="waiting", samples=samples, budget=budget,
        note="; ".join(reasons),
    )  # fmt: skip


def _running(cell: Cell, cells: Iterable[Cell], runs_dir: Path, row: dict[str, float]) -> RunStatus:
    samples, budget = int(row.get("samples", 0)), cell.config.budget.samples
    speed, loss = row.get("images_per_second"), loss_of(row)
    attempt = latest_attempt(runs_dir / cell.name)
    assert attempt is not None
    siblings = _siblings(cell, cells, runs_dir)
    notes = []
    if (silent := time.time() - last_sign(attempt)) > SILENT_SECONDS:
        notes.append(f"no sign of life for {silent:.0f} s")
    if speed and (usual := _usual_speed(siblings)) and speed < SLOW * usual:
        notes.append(f"a straggler: {speed:.0f} images/s, its siblings {usual:.0f}")
    if not row:
        notes.append("starting")
    elif samples >= budget:
        notes.append("evaluating")
    return RunStatus(
        run=cell.name,
        arm=cell.arm,
        seed=cell.seed,
        state="running",
        samples=samples,
        budget=budget,
        images_per_second=speed,
        seconds_left=(budget - samples) / speed if speed else None,
        loss=loss,
        loss_against_siblings=_against(siblings, row),
        host=str(holder(attempt).get("host", "")).partition("/")[0],
        note="; ".join(notes),
    )


def _siblings(cell: Cell, cells: Iterable[Cell], runs_dir: Path) -> list[Path]:
    """Attempts of other seeds of the arm that have measured something."""
    found: list[Path] = []
    for other in cells:
        if other.arm == cell.arm and other.name != cell.name and len(found) < MAX_SIBLINGS:
            attempt = RunFolder(runs_dir, other.name).measured()
            if attempt is not None and _stamp(attempt):
                found.append(attempt)
    return found


def loss_against_siblings(cell: Cell, cells: Iterable[Cell], runs_dir: Path, row: dict[str, float]) -> float | None:
    """A run's training loss at a row, minus the median of other seeds of its arm at that step; None without any."""
    return _against(_siblings(cell, cells, runs_dir), row)


def _against(siblings: list[Path], row: dict[str, float]) -> float | None:
    own, step = loss_of(row), row.get("step")
    if own is None or step is None:
        return None
    losses = [_loss_at(attempt, int(step), _stamp(attempt)) for attempt in siblings]
    known = [loss for loss in losses if loss is not None]
    return own - statistics.median(known) if known else None


def _usual_speed(siblings: list[Path]) -> float | None:
    speeds = [speed for attempt in siblings if (speed := _speed(attempt, _stamp(attempt))) is not None]
    return statistics.median(speeds) if speeds else None


def _stamp(attempt: Path) -> tuple[int, int] | None:
    """What changes with an attempt's metrics; None while there are none."""
    try:
        about = (attempt / "metrics.jsonl").stat()
    except FileNotFoundError:
        return None
    return (about.st_mtime_ns, about.st_size) if about.st_size else None


@lru_cache(maxsize=1024)  # a board looks every second
def _loss_at(attempt: Path, step: int, stamp: tuple[int, int] | None) -> float | None:
    row = row_at(attempt, step)
    return None if row is None else loss_of(row)


@lru_cache(maxsize=1024)
def _speed(attempt: Path, stamp: tuple[int, int] | None) -> float | None:
    """The usual one of late, in images per second."""
    speeds = [row["images_per_second"] for row in last_rows(attempt, SPEED_BYTES) if "images_per_second" in row]
    return statistics.median(speeds) if speeds else None
