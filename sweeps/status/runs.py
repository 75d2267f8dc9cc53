"""Progress of a plan's runs, for displays: from the index and, of runs that are not done, from their folders.

Nothing is written. Times of the file system are compared with this host's clock, which may differ by a minute.
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ablations.expand import Cell
from aimv2.config.run_config import RunConfig
from aimv2.errors import Cause
from aimv2.runs.index import Entry
from aimv2.runs.lease import HEARTBEAT_SECONDS, holder, is_held, last_heartbeat
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import ROWS, last_row, loss_of, losses_of, rows_at
from sweeps.plan import Plan

MAX_OTHER_SEEDS = 4
MAX_SHOWN_RUNNING = 20
MAX_READ = 30
SLOW = 0.5  # share of the other seeds' speed below which a run is a straggler
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
STALLED_SECONDS = 120.0  # without a new row, at least, before a note says so
STALLED_INTERVALS = 5  # likewise, in usual times between two writes of rows

RunState = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Progress of a run.

    Attributes:
        state: ``failed`` was tried and has no owner at present; ``waiting`` was not tried, or was interrupted.
        attempt: number of the latest attempt; 0 if there was none.
        samples: number trained on so far, of ``budget``.
        images_per_second: at the last reading.
        seconds_left: of training.
        loss: first training loss at the last reading.
        losses: all training losses at the last reading, for display.
        loss_against_other_seeds: ``loss`` minus the median loss of other seeds of the arm at that step.
        host: where its worker runs.
        cause: of a failure.
        note: what it waits for, why it failed, or what looks wrong; empty if that was not read yet.
    """

    run: str
    arm: str
    seed: int
    state: RunState
    samples: int
    budget: int
    attempt: int = 0
    images_per_second: float | None = None
    seconds_left: float | None = None
    loss: float | None = None
    losses: str = ""
    loss_against_other_seeds: float | None = None
    host: str = ""
    cause: Cause | None = None
    note: str = ""


class _Reading(NamedTuple):
    """What the folder of a run without a result showed."""

    entry: Entry
    status: RunStatus
    step: int = -1


class RunReader:
    """Reads the progress of a plan's runs again and again, and remembers what cannot change.

    The first reading opens the folders of all runs that were tried and are not done, later ones those of MAX_READ: the
    first running runs of the plan, new failures, and others in turn.
    """

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}  # by run name, the oldest first

    def read(self, plan: Plan, found: Mapping[str, Entry], waits: str) -> list[RunStatus]:
        """Return the progress of each run.

        Args:
            found: the entries of runs (``aimv2.runs.record.entries``).
            waits: the reason why runs wait.
        """
        left = {name: found[name] for name in plan.runs if name in found and found[name].state != "done"}
        due = list(islice(self._due(left), MAX_READ if self._readings else None))
        for name in due:
            before = self._readings.pop(name, None)
            self._readings[name] = self._reading(plan.cell_of[name], plan.runs[name], left[name], before)
        self._compare(plan, [name for name in due if self._readings[name].status.state == "running"], found)
        return [self._status(cell, found.get(cell.name), waits) for cell in plan.cell_of.values()]

    def _due(self, left: Mapping[str, Entry]) -> Iterator[str]:
        """Yield the runs whose folders may show something new, the most important ones first."""
        new = [name for name, entry in left.items() if not self._is_read(name, entry)]
        running = [name for name, entry in left.items() if entry.state == "running"]
        failed = [name for name in new if left[name].state == "failed"]
        oldest = [name for name in self._readings if name in left and left[name].state == "running"]
        yield from dict.fromkeys([*running[:MAX_SHOWN_RUNNING], *failed, *new, *oldest])

    def _is_read(self, name: str, entry: Entry | None) -> bool:
        return name in self._readings and self._readings[name].entry == entry

    def _status(self, cell: Cell, entry: Entry | None, waits: str) -> RunStatus:
        if entry is None:
            return _new(cell, entry, note=waits)
        if entry.state == "done":
            return _new(cell, entry, state="done")
        if not self._is_read(cell.name, entry):
            states: dict[str, RunState] = {"idle": "waiting", "failed": "failed"}
            return _new(cell, entry, state=states.get(entry.state, "running"), cause=entry.cause)
        status = self._readings[cell.name].status
        is_waiting = status.state == "waiting"
        return replace(status, note="; ".join(filter(None, [status.note, waits]))) if is_waiting else status

    def _reading(self, cell: Cell, run: RunFolder, entry: Entry, before: _Reading | None) -> _Reading:
        attempt = _attempt(run.path, entry)
        row = last_row(attempt)
        samples = int(row.get("samples", 0))
        if entry.state == "running" and is_held(attempt):
            host = before.status.host if before and before.entry == entry else ""
            return _Reading(entry, self._running(cell, entry, attempt, row, host), int(row.get("step", -1)))
        if entry.state == "running" and run.is_done:  # since the index was read
            return _Reading(entry, _new(cell, entry, state="done"))
        if (failure := run.failure()) is None:  # the folder was deleted since
            return _Reading(entry, _new(cell, entry))
        if failure.cause == "time":
            note = f"interrupted after {samples:,} samples, resumes from its checkpoint"
            return _Reading(entry, _new(cell, entry, samples=samples, note=note))
        failed = _new(cell, entry, state="failed", samples=samples, cause=failure.cause, note=failure.message)
        return _Reading(entry, failed)

    def _running(self, cell: Cell, entry: Entry, attempt: Path, row: Mapping[str, Any], host: str) -> RunStatus:
        samples, speed = int(row.get("samples", 0)), row.get("images_per_second")
        budget, notes = cell.config.budget.samples, []
        if (silent := time.time() - last_heartbeat(attempt)) > SILENT_SECONDS:
            notes.append(f"no heartbeat for {silent:.0f} s")
        if not row:
            notes.append("starting")
        elif samples >= budget:
            notes.append("evaluating")
        elif speed and row.get("step") and (stalled := _stalled(attempt, row, cell.config)):
            notes.append(stalled)
        return _new(
            cell,
            entry,
            state="running",
            samples=samples,
            images_per_second=speed,
            seconds_left=(budget - samples) / speed if speed else None,
            loss=loss_of(row),
            losses=losses_of(row),
            host=host or str(holder(attempt).get("host", "")).partition("/")[0],
            note="; ".join(notes),
        )

    def _compare(self, plan: Plan, names: Iterable[str], found: Mapping[str, Entry]) -> None:
        """Compare running runs with other seeds of their arms, each of which is opened once."""
        by_arm: dict[str, list[str]] = {}
        for name in names:
            by_arm.setdefault(plan.cell_of[name].arm, []).append(name)
        for arm, running in by_arm.items():
            steps = {self._readings[name].step for name in running}
            rows = {name: rows_at(attempt, steps) for name, attempt in _seeds(plan, arm, found).items()}
            for name in running:
                others = [other for other in rows if other != name][:MAX_OTHER_SEEDS]
                step = self._readings[name].step
                self._readings[name] = _compared(
                    self._readings[name], [rows[other][step] for other in others if step in rows[other]]
                )


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _new(cell: Cell, entry: Entry | None, *, state: RunState = "waiting", samples: int = 0, **more: Any) -> RunStatus:
    budget, attempt = cell.config.budget.samples, entry.attempt if entry else 0
    samples = budget if state == "done" else samples
    return RunStatus(
        run=cell.name,
        arm=cell.arm,
        seed=cell.seed,
        state=state,
        samples=samples,
        budget=budget,
        attempt=attempt,
        **more,
    )


def _attempt(run: Path, entry: Entry) -> Path:
    return run / "attempts" / f"{entry.attempt:04d}"


def _seeds(plan: Plan, arm: str, found: Mapping[str, Entry]) -> dict[str, Path]:
    """Return attempts of an arm by run name, those of finished runs first; one more than a run is compared with."""
    of_arm = [cell.name for cell in plan.cell_of.values() if cell.arm == arm and cell.name in found]
    order = sorted(of_arm, key=lambda name: found[name].state != "done")
    return {name: _attempt(plan.runs[name].path, found[name]) for name in order[: MAX_OTHER_SEEDS + 1]}


def _stalled(attempt: Path, row: Mapping[str, Any], config: RunConfig) -> str:
    """Return a note if new rows have stopped coming for much longer than steps and a held-out point take."""
    silent = time.time() - (attempt / ROWS).stat().st_mtime
    if silent < STALLED_SECONDS:
        return ""
    # The first held-out point is measured between these rows.
    first = [found["seconds"] for found in rows_at(attempt, (0, 1)).values() if "seconds" in found]
    held_out_seconds = first[1] - first[0] if len(first) == 2 else 0.0
    step_seconds = row["samples"] / row["step"] / row["images_per_second"]
    if silent < STALLED_INTERVALS * config.log.every_steps * step_seconds + 2 * held_out_seconds:
        return ""
    return f"no new step for {duration(silent)}; a step took {step_seconds:.2g} s"


def _compared(reading: _Reading, others: list[dict[str, Any]]) -> _Reading:
    """Return a reading with the loss and the speed against those of other seeds at the same step."""
    status = reading.status
    losses = [loss for row in others if (loss := loss_of(row)) is not None]
    if status.loss is not None and losses:
        status = replace(status, loss_against_other_seeds=status.loss - statistics.median(losses))
    speed, speeds = status.images_per_second, [row["images_per_second"] for row in others if "images_per_second" in row]
    if speed and speeds and speed < SLOW * (usual := statistics.median(speeds)):
        straggler = f"a straggler: {speed:.0f} images/s, other seeds {usual:.0f}"
        status = replace(status, note="; ".join(filter(None, [status.note, straggler])))
    return reading._replace(status=status)
