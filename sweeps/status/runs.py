"""Progress of a plan's runs, for displays: from the index and, of runs that are not done, from their folders.

Nothing is written. Times of the file system are compared with this host's clock, which may differ by a minute.
"""

import contextlib
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from aimv2.ablations.expand import Cell
from aimv2.base.errors import Cause
from aimv2.run.price import duration
from aimv2.run.times import EvaluationTimes, training_left
from aimv2.runs.index import Entry
from aimv2.runs.lease import GRACE_SECONDS, HEARTBEAT_SECONDS, attempt_folder, holder, is_held, last_heartbeat
from aimv2.runs.record import RunFolder, entries
from aimv2.runs.rows import ROWS, last_row, losses_of, rows_at
from aimv2.sweeps.active_launches import ActiveLaunch
from aimv2.sweeps.plan import Plan, Task

MAX_OTHER_SEEDS = 5
SLOW = 0.5  # share of the other seeds' speed below which a run is a straggler
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
STALLED_SECONDS = 120.0  # without a new row, at least, before a note says so
STALLED_INTERVALS = 5  # likewise, in usual times between two writes of rows

PHASES = STARTING, EVALUATING = "starting", "evaluating"  # notes on what a run does if it does not train

RunState = Literal["done", "running", "failed", "waiting"]


@dataclass
class Looks:
    """How much a reading may still look at; by default, at everything.

    Attributes:
        runs: folders of runs that are not done; each takes about ten operations.
        heartbeats: those of other running runs, at an operation each.
        results: whether those of done runs are still there, likewise.
    """

    runs: float = math.inf
    heartbeats: float = math.inf
    results: float = math.inf

    def take(self, kind: str, names: Sequence[str]) -> Sequence[str]:
        """Return the first of these names, as many as may be looked at."""
        taken = names[: int(min(getattr(self, kind), len(names)))]
        setattr(self, kind, getattr(self, kind) - len(taken))
        return taken


# Of a launch's display, which is read every few seconds, and of ``manage.py status``.
board_looks = partial(Looks, runs=30, heartbeats=0, results=25)
status_looks = partial(Looks, runs=75, heartbeats=1000, results=450)


@dataclass(kw_only=True)
class RunStatus:
    """Progress of a run, as its folder showed it at ``read_at``; before that, as its entry in the index does.

    The samples and the speed of a run whose folder was not read are the means of runs in its state.
    """

    run: str
    arm: str
    seed: int
    state: RunState  # failed: tried, and no active launch repeats it; waiting: not tried, interrupted, or repeated
    budget: int  # samples
    samples: int = 0  # trained on so far
    attempt: int = 0  # number of the latest one; 0 if there was none
    read_at: float = 0.0  # seconds since 1970
    step: int = -1  # of the last row, as are the speed and the losses
    images_per_second: float | None = None
    evaluation_seconds: float | None = None  # that its evaluation takes in all; None if it is not known
    seconds_left: float | None = None  # of training and evaluation; of training, if that of the evaluation is not known
    losses: str = ""  # of training, for display
    host: str = ""  # where its worker runs
    cause: Cause | None = None  # of a failure or an interruption
    note: str = ""  # why it ended, or what looks wrong

    @property
    def evaluation_left(self) -> float | None:
        """Seconds of its evaluation that are left; None if they are not known."""
        is_evaluating = self.state == "running" and self.read_at and self.samples >= self.budget
        is_known = self.evaluation_seconds is not None
        return (self.seconds_left or 0.0) if is_evaluating and is_known else self.evaluation_seconds


class RunReader:
    """Reads the progress of a plan's runs again and again.

    What a reading may look at is limited by ``Looks``. It opens the folders of runs whose state has changed first, and
    then those of running ones in turn.
    """

    def __init__(self) -> None:
        self._runs: dict[str, RunStatus] = {}
        self._found: Mapping[str, Entry] = {}
        self._times = EvaluationTimes()
        self._lost: dict[str, Entry] = {}  # entries of done runs without a result
        self._broken: dict[str, str] = {}  # what is wrong with the results of others
        self._first_result = random.randrange(2**32)  # so that repeated commands look at others
        self._is_over: dict[tuple[str, Entry, int], bool] = {}

    def entries(self, plan: Plan, looks: Looks) -> dict[str, Entry]:
        """Return ``record.entries`` without runs whose results were deleted. Results are looked at in turn."""
        found = entries(plan.runs_dir)
        done = [name for name in plan.cell_of if name in found and found[name].state == "done"]
        first = self._first_result % max(len(done), 1)
        seen = looks.take("results", done[first:] + done[:first])
        self._first_result = first + len(seen)
        problems = {name: text for name in seen if (text := RunFolder(plan.runs_dir, name).problem())}
        lost = {name: found[name] for name in problems if not RunFolder(plan.runs_dir, name).is_done}
        kept = {name: text for name, text in self._broken.items() if name not in seen}
        self._broken = kept | {name: text for name, text in problems.items() if name not in lost}
        self._lost = {name: entry for name, entry in self._lost.items() if name not in seen} | lost
        return {name: entry for name, entry in found.items() if self._lost.get(name) != entry}

    def read(
        self,
        plan: Plan,
        found: Mapping[str, Entry],
        looks: Looks | None = None,
        launches: Mapping[str, Sequence[ActiveLaunch]] | None = None,
    ) -> list[RunStatus]:
        """Return the progress of each run, given its entry; the next reading changes it in place."""
        looks, launches, lost = looks or Looks(), launches or {}, self._lost.keys() - found.keys()
        for name, cell in plan.cell_of.items():
            if name not in self._runs or found.get(name) != self._found.get(name):
                self._runs[name] = _from_index(cell, found.get(name))
                self._runs[name].note = "its result was deleted" if name in lost else ""
            if name in self._broken and name in found:
                run = self._runs[name]
                run.state, run.cause, run.note = "failed", "data", self._broken[name]
            elif name in found and found[name].state == "done":
                self._times.learn(cell.arm, plan.runs_dir / name)
        self._found = found
        left = [name for name in plan.cell_of if name in found and found[name].state != "done"]
        due = looks.take("runs", self._due(plan, left, looks))
        arms = {cell.arm: cell.config for cell in plan.cell_of.values()}
        times = {arm: self._times.of(arm, config) for arm, config in arms.items()}
        for run in self._runs.values():
            run.evaluation_seconds = times.get(run.arm)
        for name in due:
            cell = plan.cell_of[name]
            _update(self._runs[name], cell, RunFolder(plan.runs_dir, name), found[name])
        for name in left:
            run, entry = self._runs[name], found[name]
            if run.state in ("failed", "waiting"):
                has_failed = entry.state == "failed" or run.cause not in (None, "time")
                is_repeated = any(self._repeats(one, plan, name, entry) for one in launches.get(name, ()))
                run.state = "failed" if has_failed and not is_repeated else "waiting"
        _estimate([self._runs[name] for name in left])
        _note_stragglers(plan, found, [run for name in due if (run := self._runs[name]).state == "running"])
        return [self._runs[name] for name in plan.cell_of]

    def _due(self, plan: Plan, left: Sequence[str], looks: Looks) -> list[str]:
        """Return the runs to read, the most urgent first: those not read yet, with each state and cause in turn."""
        due = [name for name in left if self._found[name].state == "running" or not self._runs[name].read_at]
        silences = dict[str, float]()
        if len(due) > looks.runs:
            unread = [name for name in due if self._found[name].state == "running" and not self._runs[name].read_at]
            for name in looks.take("heartbeats", unread):
                silences[name] = _silence(attempt_folder(plan.runs_dir / name, self._found[name].attempt))
                if silences[name] > GRACE_SECONDS:
                    self._runs[name].state, self._runs[name].cause = "failed", "node"
        count, rank = Counter[Any](), {}
        for name in sorted(due):  # names are hashes, so that this is a random sample
            entry = self._found[name]
            group = (entry.state, entry.cause, silences.get(name, 0.0) > SILENT_SECONDS)
            rank[name], count[group] = count[group], count[group] + 1
        return sorted(due, key=lambda name: (self._runs[name].read_at, rank[name]))

    def _repeats(self, launch: ActiveLaunch, plan: Plan, name: str, entry: Entry) -> bool:
        task = Task(name, plan.cell_of[name].config, launch.after.get(name, 0))
        key = (name, entry, task.after)
        if key not in self._is_over:
            self._is_over[key] = task.is_over(entry, plan.runs_dir)
        return not self._is_over[key]


def _from_index(cell: Cell, entry: Entry | None) -> RunStatus:
    run = RunStatus(run=cell.name, arm=cell.arm, seed=cell.seed, state="waiting", budget=cell.config.num_samples)
    if entry is not None:
        run.state = "waiting" if entry.state == "idle" else entry.state
        run.attempt, run.cause = entry.attempt, entry.cause
    run.samples = run.budget if run.state == "done" else 0
    return run


def _update(run: RunStatus, cell: Cell, folder: RunFolder, entry: Entry) -> None:
    """Read the folder of a run that has no result."""
    attempt = attempt_folder(folder.path, entry.attempt)
    row = last_row(attempt)
    run.read_at, run.samples, run.step = time.time(), int(row.get("samples", 0)), int(row.get("step", -1))
    if entry.state == "running" and is_held(attempt):
        run.state, run.cause, run.images_per_second = "running", None, row.get("images_per_second")
        run.losses = losses_of(row)
        run.host = run.host or str(holder(attempt).get("host", "")).partition("/")[0]
        silent, evaluation, run.seconds_left = 0.0, run.evaluation_seconds, None
        with contextlib.suppress(FileNotFoundError):  # the attempt has just begun
            silent = time.time() - (attempt / ROWS).stat().st_mtime
        if run.samples >= run.budget:
            run.seconds_left = evaluation - silent if evaluation is not None and evaluation > silent else None
        elif run.images_per_second:
            training = training_left(cell.config, run.samples, run.images_per_second)
            run.seconds_left = training + (evaluation or 0.0)
        run.note = "; ".join(_notes(run, attempt, row, silent, cell.config.log.every_steps))
    elif entry.state == "running" and folder.is_done:  # since the index was read
        run.state, run.samples, run.note = "done", run.budget, ""
    elif failure := folder.failure():  # None if the folder was deleted since
        run.state, run.cause, run.note = "failed", failure.cause, failure.message


def _notes(run: RunStatus, attempt: Path, row: Mapping[str, Any], silent: float, every_steps: int) -> Iterator[str]:
    """Yield what a running run does if it does not train, and what looks wrong; ``silent`` is since its last row."""
    if (silence := _silence(attempt)) > SILENT_SECONDS:
        yield f"no heartbeat for {silence:.0f} s"
    if run.samples >= run.budget:
        yield EVALUATING
    elif not row:
        yield STARTING
    elif run.images_per_second and run.step > 0:
        seconds = run.samples / run.step / run.images_per_second
        usual = STALLED_INTERVALS * every_steps * seconds
        if silent > max(STALLED_SECONDS, usual):
            # The first held-out point is measured between the first two rows.
            first = [found["seconds"] for found in rows_at(attempt, (0, 1)).values() if "seconds" in found]
            if len(first) < 2 or silent > usual + 2 * (first[1] - first[0]):
                yield f"no new step for {duration(silent)}; a step took {seconds:.2g} s"


def _silence(attempt: Path) -> float:
    """Return the seconds since the last heartbeat; infinity if the folder was deleted."""
    try:
        return time.time() - last_heartbeat(attempt)
    except FileNotFoundError:
        return math.inf


def _estimate(runs: Sequence[RunStatus]) -> None:
    """Give the runs whose folders were not read the means of those in the same state."""
    for state in {run.state for run in runs}:
        read = [run for run in runs if run.state == state and run.read_at]
        unread = [run for run in runs if run.state == state and not run.read_at]
        share = sum(run.samples for run in read) / max(sum(run.budget for run in read), 1)
        speeds = [run.images_per_second for run in read if run.images_per_second]
        for run in unread:
            run.samples = round(share * run.budget)
            if state == "running":
                run.images_per_second = statistics.mean(speeds) if speeds else None


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
