"""Progress of a plan's runs, for displays: from the index and, of runs that are not done, from their folders.

Nothing is written. Times of the file system are compared with this host's clock, which may differ by a minute.
"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablations.expand import Cell
from aimv2.base.errors import Cause
from aimv2.run.pricing.price import duration
from aimv2.runs.index import Entry
from aimv2.runs.lease import HEARTBEAT_SECONDS, attempt_folder, holder, is_held, last_heartbeat
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import ROWS, last_row, losses_of, rows_at
from sweeps.plan import Plan

MAX_OTHER_SEEDS = 5
MAX_READ = 30
SLOW = 0.5  # share of the other seeds' speed below which a run is a straggler
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
STALLED_SECONDS = 120.0  # without a new row, at least, before a note says so
STALLED_INTERVALS = 5  # likewise, in usual times between two writes of rows

RunState = Literal["done", "running", "failed", "waiting"]


@dataclass(kw_only=True)
class RunStatus:
    """Progress of a run, as its folder showed it at ``read_at``; before that, as its entry in the index does."""

    run: str
    arm: str
    seed: int
    state: RunState  # failed: tried, and has no owner at present; waiting: not tried, or interrupted
    budget: int  # samples
    samples: int = 0  # trained on so far
    attempt: int = 0  # number of the latest one; 0 if there was none
    read_at: float = 0.0  # seconds since 1970
    step: int = -1  # of the last row, as are the speed and the losses
    images_per_second: float | None = None
    seconds_left: float | None = None  # of training
    losses: str = ""  # of training, for display
    host: str = ""  # where its worker runs
    cause: Cause | None = None  # of a failure or an interruption
    note: str = ""  # why it ended, or what looks wrong


class RunReader:
    """Reads the progress of a plan's runs again and again.

    A reading opens the folders of at most MAX_READ runs: those whose state has changed, then running ones in turn.

    Args:
        reads_all_first: open the folders of all runs that were tried and are not done in the first reading.
    """

    def __init__(self, *, reads_all_first: bool = True) -> None:
        self._limit = None if reads_all_first else MAX_READ
        self._runs: dict[str, RunStatus] = {}
        self._found: Mapping[str, Entry] = {}

    def read(self, plan: Plan, found: Mapping[str, Entry], *, is_launched: bool = False) -> list[RunStatus]:
        """Return the progress of each run, given ``record.entries``; the next reading changes it in place.

        Args:
            is_launched: a launch is active, which repeats runs that lost their workers: these wait.
        """
        for name, cell in plan.cell_of.items():
            if name not in self._runs or found.get(name) != self._found.get(name):
                self._runs[name] = _from_index(cell, found.get(name))
        self._found = found
        left = [name for name in plan.cell_of if name in found and found[name].state != "done"]
        due = [name for name in left if found[name].state == "running" or not self._runs[name].read_at]
        due = sorted(due, key=lambda name: self._runs[name].read_at)[: self._limit]
        self._limit = MAX_READ
        for name in due:
            _update(self._runs[name], plan.cell_of[name], RunFolder(plan.runs_dir, name), found[name], is_launched)
        _note_stragglers(plan, found, [run for name in due if (run := self._runs[name]).state == "running"])
        return [self._runs[name] for name in plan.cell_of]


def _from_index(cell: Cell, entry: Entry | None) -> RunStatus:
    run = RunStatus(run=cell.name, arm=cell.arm, seed=cell.seed, state="waiting", budget=cell.config.budget.samples)
    if entry is not None:
        run.state = "waiting" if entry.state == "idle" else entry.state
        run.attempt, run.cause = entry.attempt, entry.cause
    run.samples = run.budget if run.state == "done" else 0
    return run


def _update(run: RunStatus, cell: Cell, folder: RunFolder, entry: Entry, is_launched: bool) -> None:
    """Read the folder of a run that has no result."""
    attempt = attempt_folder(folder.path, entry.attempt)
    row = last_row(attempt)
    run.read_at, run.samples, run.step = time.time(), int(row.get("samples", 0)), int(row.get("step", -1))
    if entry.state == "running" and is_held(attempt):
        run.state, run.cause, run.images_per_second = "running", None, row.get("images_per_second")
        run.seconds_left = (run.budget - run.samples) / run.images_per_second if run.images_per_second else None
        run.losses = losses_of(row)
        run.host = run.host or str(holder(attempt).get("host", "")).partition("/")[0]
        run.note = "; ".join(_notes(run, attempt, row, cell.config.log.every_steps))
    elif entry.state == "running" and folder.is_done:  # since the index was read
        run.state, run.samples, run.note = "done", run.budget, ""
    elif failure := folder.failure():  # None if the folder was deleted since
        is_repeated = is_launched and entry.state == "running" and folder.state() != "failed"
        run.state = "waiting" if is_repeated or failure.cause == "time" else "failed"
        run.cause, run.note = failure.cause, failure.message


def _notes(run: RunStatus, attempt: Path, row: Mapping[str, Any], every_steps: int) -> Iterator[str]:
    """Yield what a running run does if it does not train, and what looks wrong."""
    if (silent := time.time() - last_heartbeat(attempt)) > SILENT_SECONDS:
        yield f"no heartbeat for {silent:.0f} s"
    if not row:
        yield "starting"
    elif run.samples >= run.budget:
        yield "evaluating"
    elif run.images_per_second and run.step > 0:
        silent, seconds = time.time() - (attempt / ROWS).stat().st_mtime, run.samples / run.step / run.images_per_second
        usual = STALLED_INTERVALS * every_steps * seconds
        if silent > max(STALLED_SECONDS, usual):
            # The first held-out point is measured between the first two rows.
            first = [found["seconds"] for found in rows_at(attempt, (0, 1)).values() if "seconds" in found]
            if len(first) < 2 or silent > usual + 2 * (first[1] - first[0]):
                yield f"no new step for {duration(silent)}; a step took {seconds:.2g} s"


def _note_stragglers(plan: Plan, found: Mapping[str, Entry], running: Sequence[RunStatus]) -> None:
    """Note runs that are slower than other seeds of their arms at the same step, of which finished ones come first."""
    for arm in dict.fromkeys(run.arm for run in running):
        runs = [run for run in running if run.arm == arm]
        tried = [cell.name for cell in plan.cell_of.values() if cell.arm == arm and cell.name in found]
        seeds = sorted(tried, key=lambda name: found[name].state != "done")[:MAX_OTHER_SEEDS]
        steps = {run.step for run in runs}
        rows = {name: rows_at(attempt_folder(plan.runs_dir / name, found[name].attempt), steps) for name in seeds}
        for run in runs:
            others = [rows[name][run.step] for name in seeds if name != run.run and run.step in rows[name]]
            speeds = [row["images_per_second"] for row in others if "images_per_second" in row]
            if run.images_per_second and speeds and run.images_per_second < SLOW * statistics.median(speeds):
                slow = f"{run.images_per_second:.0f} images/s, other seeds {statistics.median(speeds):.0f}"
                run.note = "; ".join(filter(None, [run.note, f"a straggler: {slow}"]))
