"""Displays in the terminal: the progress of a launch or of ``manage.py status``, and the logs of a run."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from aimv2.base.errors import Cause, UsageError
from aimv2.run.price import duration
from aimv2.runs.failure import read_failure
from aimv2.runs.lease import holder, is_held
from aimv2.runs.record import RunFolder
from aimv2.sweeps.plan import Plan, Trials
from aimv2.sweeps.progress import (
    PHASES,
    Looks,
    QueueOf,
    RunReader,
    RunState,
    RunStatus,
    SweepStatus,
    board_looks,
    plan_status,
)

REFRESH_SECONDS = 2.0
BACK_OFF = 20  # least ratio of the time between two readings to the time that one takes
LINE_SECONDS = 30.0  # between two lines where there is no terminal
MAX_SHOWN_RUNNING = 20
SHOWN_ROWS = 5  # of a run's metrics
SHOWN_LINES = 20  # of its log
WIDTHS = {"run": len("v2-123456789abc"), "loss": len("pixel 0.123")}  # at least; a run's name is typed in commands
STATE_STYLES: dict[RunState, str] = {"done": "green", "running": "cyan", "failed": "red", "waiting": "dim"}
ADVICE: dict[Cause, str] = {
    "out of memory": "retry with a smaller executor.runs_per_gpu or fewer executor.workers; or a smaller"
    " budget.batch_size, which makes another run",
    "no space": "free space or raise the quota, then retry",
    "not finite": "of a loss: a lower optimizer.peak_lr or a longer optimizer.warmup_fraction, which makes another run;"
    " of a metric of your own: its function",
    "node": "check the disk and the host (logs RUN), then retry",
    "data": "fix or delete the file that the message names, then retry",
    "bug": "read the traceback (logs RUN); with the same code it fails again",
}


@dataclass
class Board:
    """Live display of a sweep's progress; a line now and then where the console is no terminal."""

    plan: Plan
    console: Console
    queue_of: QueueOf  # as in ``plan_status``
    trials: Callable[[], Trials] = Trials  # of a search
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._reader = RunReader()
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._next_at, self._line_at, self._num_failed = float("-inf"), self.clock(), 0
        self._problem = ""

    def shown(self, *, is_live: bool) -> AbstractContextManager[object]:
        """Return a context in which it is shown: redrawn in place if ``is_live`` and the console is a terminal."""
        return self._live if is_live and self.console.is_terminal else nullcontext()

    def update(self) -> None:
        """Read the progress and display it, at most every REFRESH_SECONDS, and more rarely if reading is slow."""
        now = self.clock()
        if now < self._next_at:
            return
        try:
            looks = board_looks()
            status = plan_status(self.plan, self._reader, looks, queue_of=self.queue_of, trials=self.trials())
        except (UsageError, OSError) as error:  # of a file of another launch, perhaps; a display ends nothing
            if str(error) != self._problem:
                self.console.print(f"progress is not shown: {error}", style="red", soft_wrap=True, markup=False)
            self._problem, self._next_at = str(error), now + LINE_SECONDS
            return
        self._next_at = now + pause(self.clock() - now)
        if self._live.is_started:
            self._live.update(rendered([status]), refresh=True)
        elif now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            states = {run.state for run in status.runs}
            is_idle = status.num_launches and "waiting" in states and "running" not in states
            waits = f"\n  not done: {status.waits}" if is_idle else ""
            line = f"{status.name}: {headline(status)}{waits}"
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)
            failed = [run for run in status.runs if run.state == "failed"]
            if len(failed) > self._num_failed:
                self.console.print(reasons(failed), soft_wrap=True)
            self._num_failed = len(failed)


def pause(reading: float, least: float = REFRESH_SECONDS) -> float:
    """Return the seconds until the next reading, given those that the last one took."""
    return max(least, BACK_OFF * reading)


def print_failures(console: Console, plan: Plan, names: Collection[str]) -> bool:
    """Print why these runs have no result. Return True if there is such a run."""
    reader = RunReader()
    runs = reader.read(plan, reader.entries(plan, Looks()))
    left = [run for run in runs if run.run in names and run.state != "done"]
    for run in left:
        run.note = run.note or RunFolder(plan.runs_dir, run.run).obstacle()
    if left:
        console.print(reasons(left), soft_wrap=True)
    return bool(left)


def rendered(sweeps: list[SweepStatus]) -> RenderableType:
    """Render sweeps: progress, arms, active runs, and why other runs have no result."""
    parts: list[RenderableType] = []
    for sweep in sweeps:
        by_state = {state: [run for run in sweep.runs if run.state == state] for state in STATE_STYLES}
        question = f": {escape(sweep.question)}" if sweep.question else ""
        parts.append(Text.from_markup(f"[bold]{sweep.name}[/bold]{question}"))
        parts += [*map(Text, [headline(sweep), *sweep.queue]), _arms(sweep)]
        if running := by_state["running"]:
            parts.append(_running(running))
        parts.append(reasons([*by_state["failed"], *by_state["waiting"]], sweep.waits))
        notes = {"note": sweep.code, "report": sweep.report}
        parts += [*(Text(f"{name}: {text}") for name, text in notes.items() if text), Text("")]
    return Group(*parts) if parts else Text("nothing was launched into this folder yet")


def headline(sweep: SweepStatus) -> str:
    """Return a sweep's progress in a line."""
    count = Counter(run.state for run in sweep.runs)
    counts = ", ".join(f"{count[state]} {state}" for state in STATE_STYLES if count[state])
    progress = f"{sum(run.samples for run in sweep.runs):,} of {sum(run.budget for run in sweep.runs):,} samples"
    tried = [run for run in sweep.runs if run.attempt and run.state != "done"]
    if (num_read := sum(run.read_at > 0 for run in tried)) < len(tried):
        progress = f"about {progress} ({num_read} of {len(tried)} unfinished runs were read)"
    parts = [f"{len(sweep.runs)} run{'s' * (len(sweep.runs) != 1)}, {counts}", progress]
    if sweep.num_launches or not count["running"]:
        parts.append(f"{sweep.num_launches} active launch{'es' * (sweep.num_launches != 1)}")
    trials = f"trials: {sweep.trials}" if sweep.trials else ""
    return "; ".join(filter(None, [trials, *parts, time_left(sweep)]))


def time_left(sweep: SweepStatus) -> str:
    """Return in words how long the active and waiting runs take; empty if no run is active, or no speed is known."""
    left = [run for run in sweep.runs if run.state in ("running", "waiting")]
    running = [run for run in left if run.state == "running"]
    speed = sum(run.images_per_second or 0.0 for run in running)
    to_train = sum(run.budget - run.samples for run in left)
    if not running or (to_train and not speed):
        return ""
    seconds = to_train / speed if to_train else 0.0  # running runs keep their speed, and the others follow them
    known = [run.evaluation_left for run in left if run.evaluation_left is not None]
    if not known:
        training = f"about {duration(seconds)} of training left; " if to_train else ""
        return f"{training}no evaluation was timed yet"
    seconds += len(left) * statistics.mean(known) / len(running)
    return f"about {duration(max(seconds, *(run.seconds_left or 0.0 for run in running)))} left, with evaluations"


def reasons(runs: Iterable[RunStatus], waits: str = "no worker finished it") -> RenderableType:
    """Render why runs have no result, by cause, with the first one's message and advice; ``waits`` is why some wait."""
    by_reason: dict[tuple[RunState, Cause | None, str], list[RunStatus]] = {}
    for run in sorted(runs, key=lambda run: not run.read_at):  # the first of each has its message
        by_reason.setdefault((run.state, run.cause, run.note if run.cause is None else ""), []).append(run)
    lines = []
    for run, *more in by_reason.values():
        which = f"{run.arm}, seed {run.seed} ({run.run})" + f" and {len(more)} more" * bool(more)
        what = f"failed, {run.cause}: " if run.state == "failed" else "not done: "
        note = "; ".join(filter(None, [run.note, waits if run.state == "waiting" else ""]))
        lines.append(Text(f"{which} {what}{note}", style=STATE_STYLES[run.state]))
        lines += [Text(f"  {ADVICE[run.cause]}")] if run.state == "failed" and run.cause in ADVICE else []
    return Group(*lines)


def _arms(sweep: SweepStatus) -> Table:
    columns = (Column(name, justify="right") for name in (*STATE_STYLES, "samples"))
    table = Table("arm", *columns, box=SIMPLE_HEAD)
    for arm in dict.fromkeys(run.arm for run in sweep.runs):
        runs = [run for run in sweep.runs if run.arm == arm]
        count, budget = Counter(run.state for run in runs), sum(run.budget for run in runs)
        shown = [f"[{style}]{count[state]}[/]" if count[state] else "" for state, style in STATE_STYLES.items()]
        table.add_row(arm, *shown, f"{sum(run.samples for run in runs) / budget:.0%}" if budget else "")
    return table


def _running(running: list[RunStatus]) -> Group:
    right = ("done", "images/s", "left", "loss")
    columns = [Column("running", no_wrap=True), Column("run", no_wrap=True, min_width=WIDTHS["run"])]
    columns += [Column(name, justify="right", no_wrap=name != "loss", min_width=WIDTHS.get(name)) for name in right]
    table = Table(*columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # What looks wrong comes first, and runs that were not read last.
    shown = sorted(running, key=lambda run: (not run.read_at, run.note in ("", *PHASES)))[:MAX_SHOWN_RUNNING]
    for run in shown:
        over = "over " * (run.evaluation_seconds is None)
        table.add_row(
            f"{run.arm}, {run.seed}",
            run.run,
            f"{run.samples / run.budget:.0%}" if run.budget else "",
            f"{run.images_per_second:.0f}" if run.images_per_second else "",
            "" if run.seconds_left is None else f"{over}{duration(run.seconds_left)}",
            run.note if run.note in PHASES else run.losses,
        )
    more = [Text(f"and {len(running) - len(shown)} more")] if len(running) > len(shown) else []
    notes = [
        f"{run.arm}, {run.seed} on {run.host or 'an unknown host'}: {run.note}"
        for run in shown
        if run.note not in ("", *PHASES)
    ]
    return Group(table, *more, *map(Text, notes))


def print_logs(run: RunFolder, console: Console) -> None:
    state, attempts = run.state(), sorted(run.path.glob("attempts/[0-9]*"))
    console.print(f"{run.path}: {'not done' if state == 'new' else state}", soft_wrap=True)
    for attempt in attempts:
        owner = holder(attempt)
        where = f"{str(owner.get('host', 'unknown host')).partition('/')[0]}, process {owner.get('pid', 'unknown')}"
        console.print(f"attempt {attempt.name}: {where}, {_ending(attempt)}", soft_wrap=True)
        log = Path(owner.get("log") or "")
        if log.is_file():
            lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            console.print(f"log {log}:", *lines, sep="\n  ", markup=False, soft_wrap=True)
    if rows := run.rows()[-SHOWN_ROWS:]:
        console.print(_rows_table(rows))
    failed = sorted(run.path.glob("attempts/*/failure.json"))
    if failed and not run.is_done:
        console.print(read_failure(failed[-1].parent).traceback, markup=False, soft_wrap=True)


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Render metric rows as the columns of a table, since a row has more values than a line has room for."""
    steps = (Column(f"{row.get('step', '')}", justify="right") for row in rows)
    table = Table(Column("step", no_wrap=True), *steps, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in dict.fromkeys(name for row in rows for name in row if name != "step"):
        table.add_row(name, *(_shown(row.get(name)) for row in rows))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) and value < 1e6 else f"{value:.4g}"
    return "" if value is None else str(value)


def _ending(attempt: Path) -> str:
    if (attempt / "failure.json").exists():
        failure = read_failure(attempt)
        return f"failed, {failure.cause}: {failure.message}"
    endings = {"result.json": "finished", "interrupted": "interrupted"}
    still = "running" if is_held(attempt) else "died without a record"
    return next((ending for name, ending in endings.items() if (attempt / name).exists()), still)
