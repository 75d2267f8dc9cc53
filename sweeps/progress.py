"""Progress of sweeps, for displays: from the index, the folders of runs that are not done, and a scheduler's queue.

Nothing is written. Times of the file system are compared with this host's clock, which may differ by a minute.
"""

import contextlib
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from aimv2.ablations.expand import Cell
from aimv2.base.errors import Cause, UsageError
from aimv2.base.files import read_json
from aimv2.config.run_config import program_of
from aimv2.run.price import duration
from aimv2.run.times import EvaluationTimes, training_left
from aimv2.runs.index import Entry
from aimv2.runs.lease import GRACE_SECONDS, HEARTBEAT_SECONDS, attempt_folder, holder, is_held, last_heartbeat
from aimv2.runs.record import RunFolder, entries
from aimv2.runs.rows import ROWS, last_row, losses_of, rows_at
from aimv2.sweeps.active_launches import LOGS, ActiveLaunch, Jobs, Queued, active_launches
from aimv2.sweeps.plan import Plan, Task, Trials, code_note

SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
STALLED_SECONDS = 120.0  # without a new row, at least, before a note says so
STALLED_INTERVALS = 5  # likewise, in usual times between two writes of rows

PHASES = STARTING, EVALUATING = "starting", "evaluating"  # notes on what a run does if it does not train

RunState = Literal["done", "running", "failed", "waiting"]
NO_TRIALS = Trials()
SINGLE = "train"  # the name of single runs; their launches on a scheduler have it too
MAX_SINGLE = 20
# Returns a launch's jobs in the queue of its scheduler; None if that does not answer.
QueueOf = Callable[[ActiveLaunch], Sequence[Queued] | None]


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
    """Progress of a run, as its folder showed it at ``read_at``; before that, as its entry in the index does, with the
    mean samples and speed of runs in its state."""

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


class RunReader:
    """Reads the progress of a plan's runs again and again.

    What a reading may look at is limited by ``Looks``. It opens the folders of runs whose state has changed first, and
    then those of running ones in turn.
    """

    def __init__(self) -> None:
        self._runs: dict[str, RunStatus] = {}
        self._entry_of: Mapping[str, Entry] = {}
        self._times = EvaluationTimes()
        self._lost: dict[str, Entry] = {}  # entries of done runs without a result
        self._broken: dict[str, str] = {}  # what is wrong with the results of others
        self._first_result = random.randrange(2**32)  # so that repeated commands look at others
        self._is_over: dict[tuple[str, Entry, int], bool] = {}

    def entries(self, plan: Plan, looks: Looks) -> dict[str, Entry]:
        """Return ``record.entries`` without runs whose results were deleted. Results are looked at in turn."""
        entry_of = entries(plan.runs_dir)
        done = [name for name in plan.cell_of if name in entry_of and entry_of[name].state == "done"]
        first = self._first_result % max(len(done), 1)
        seen = looks.take("results", done[first:] + done[:first])
        self._first_result = first + len(seen)
        problems = {name: text for name in seen if (text := RunFolder(plan.runs_dir, name).problem())}
        lost = {name: entry_of[name] for name in problems if not RunFolder(plan.runs_dir, name).is_done}
        kept = {name: text for name, text in self._broken.items() if name not in seen}
        self._broken = kept | {name: text for name, text in problems.items() if name not in lost}
        self._lost = {name: entry for name, entry in self._lost.items() if name not in seen} | lost
        return {name: entry for name, entry in entry_of.items() if self._lost.get(name) != entry}

    def read(
        self,
        plan: Plan,
        entry_of: Mapping[str, Entry],
        looks: Looks | None = None,
        launches: Mapping[str, Sequence[ActiveLaunch]] | None = None,
    ) -> list[RunStatus]:
        """Return the progress of each run, given its entry; the next reading changes it in place."""
        looks, launches, lost = looks or Looks(), launches or {}, self._lost.keys() - entry_of.keys()
        for name, cell in plan.cell_of.items():
            if name not in self._runs or entry_of.get(name) != self._entry_of.get(name):
                self._runs[name] = _from_index(cell, entry_of.get(name))
                self._runs[name].note = "its result was deleted" if name in lost else ""
            if name in self._broken and name in entry_of:
                run = self._runs[name]
                run.state, run.cause, run.note = "failed", "data", self._broken[name]
            elif name in entry_of and entry_of[name].state == "done":
                self._times.learn(cell.arm, plan.runs_dir / name)
        self._entry_of = entry_of
        left = [name for name in plan.cell_of if name in entry_of and entry_of[name].state != "done"]
        due = looks.take("runs", self._due(plan, left, looks))
        arms = {cell.arm: cell.config for cell in plan.cell_of.values()}
        times = {arm: self._times.of(arm, config) for arm, config in arms.items()}
        for run in self._runs.values():
            run.evaluation_seconds = times.get(run.arm)
        for name in due:
            cell = plan.cell_of[name]
            _update(self._runs[name], cell, RunFolder(plan.runs_dir, name), entry_of[name])
        for name in left:
            run, entry = self._runs[name], entry_of[name]
            if run.state in ("failed", "waiting"):
                has_failed = entry.state == "failed" or run.cause not in (None, "time")
                is_repeated = any(self._repeats(launch, plan, name, entry) for launch in launches.get(name, ()))
                run.state = "failed" if has_failed and not is_repeated else "waiting"
        _estimate([self._runs[name] for name in left])
        return [self._runs[name] for name in plan.cell_of]

    def _due(self, plan: Plan, left: Sequence[str], looks: Looks) -> list[str]:
        """Return the runs to read, the most urgent first: those not read yet, with each state and cause in turn."""
        due = [name for name in left if self._entry_of[name].state == "running" or not self._runs[name].read_at]
        silences = dict[str, float]()
        if len(due) > looks.runs:
            unread = [name for name in due if self._entry_of[name].state == "running" and not self._runs[name].read_at]
            for name in looks.take("heartbeats", unread):
                silences[name] = _silence(attempt_folder(plan.runs_dir / name, self._entry_of[name].attempt))
                if silences[name] > GRACE_SECONDS:
                    self._runs[name].state, self._runs[name].cause = "failed", "node"
        count, rank = Counter[Any](), {}
        for name in sorted(due):  # names are hashes, so that this is a random sample
            entry = self._entry_of[name]
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
            first = [row["seconds"] for row in rows_at(attempt, (0, 1)).values() if "seconds" in row]
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


def plan_status(
    plan: Plan,
    reader: RunReader | None = None,
    looks: Looks | None = None,
    *,
    queue_of: QueueOf,
    trials: Trials = NO_TRIALS,
) -> SweepStatus:
    """Return the progress of a plan's runs, and of the unpruned trials of its search, with the question and the report
    of the last of its requests."""
    reader, looks, requested = reader or RunReader(), looks or Looks(), plan.cell_of
    plan = replace(plan, cells=[*plan.cells, *trials.cells])
    entry_of = reader.entries(plan, looks)
    open_runs = {name for name in requested if name not in entry_of or entry_of[name].state != "done"}
    all_launches = active_launches(plan.runs_dir)
    # A launch of another study does what this one lacks too, as with sensitivity=auto.
    launches = [
        launch for launch in all_launches if launch.study == plan.title or (open_runs and open_runs <= launch.runs)
    ]
    queues = {launch.folder: queue_of(launch) for launch in launches if launch.jobs is not None}
    active = [launch for launch in launches if queues.get(launch.folder) != []]

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
        queue=[in_queue(launch.jobs, queues[launch.folder]) for launch in launches if launch.jobs is not None],
        trials=trials.described,
        runs=reader.read(
            plan,
            entry_of,
            looks,
            {name: [launch for launch in all_launches if does(launch, name)] for name in plan.cell_of},
        ),
        waits="no worker, core, GPU or memory is free yet" if active else _no_launch(plan.runs_dir / LOGS, plan.title),
        code=code_note(entry_of, plan.cell_of, is_allowed=request is not None and request.study.allow_mixed_code),
        report=str(report) if report and report.exists() else "",
    )


def single_status(
    runs_dir: Path, others: Collection[str], reader: RunReader, looks: Looks, *, queue_of: QueueOf
) -> SweepStatus | None:
    """Return the progress of runs of ``python -m aimv2 train``, active ones first; None if there are none."""
    entry_of = {name: entry for name, entry in entries(runs_dir).items() if name not in others}
    order = sorted(entry_of, key=lambda name: (("running", "failed", "idle", "done").index(entry_of[name].state), name))
    cells = []
    for name in order[:MAX_SINGLE]:
        with contextlib.suppress(UsageError):  # it has just begun, or is of a version that this one cannot read
            config = program_of(read_json(runs_dir / name / "config.json"))
            cell = Cell(arm=config.title, seed=config.seed, config=config)
            cells += [cell] if cell.name == name else []  # this version may name it differently
    if not cells:
        return None
    status = plan_status(Plan(SINGLE, cells, runs_dir), reader, looks, queue_of=queue_of)
    more = f"{len(entry_of) - len(cells)} more single runs are not shown" if len(entry_of) > len(cells) else ""
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


def _no_launch(logs: Path, name: str) -> str:
    last = max(logs.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
    where = "" if last is None else f"; the logs of its last workers are in {last}"
    return f"no active launch of this sweep, so launch it again{where}"
