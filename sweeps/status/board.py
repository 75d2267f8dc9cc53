"""The progress display: of a launch while it waits for its workers, and of ``manage.py status``."""

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from aimv2.errors import Cause
from aimv2.runs.record import entries
from sweeps.plan import Plan
from sweeps.status.runs import MAX_SHOWN_RUNNING, RunReader, RunState, RunStatus, duration
from sweeps.status.status import SweepStatus, plan_status, waiting_workers

REFRESH_SECONDS = 2.0
BACK_OFF = 20  # least ratio of the time between two readings to the time that one takes
LINE_SECONDS = 30.0  # between two lines where there is no terminal
BAR_WIDTH = 40
STATE_STYLES: dict[RunState, str] = {"done": "green", "running": "cyan", "failed": "red", "waiting": "dim"}
ADVICE: dict[Cause, str] = {
    "out of memory": "retry, which halves executor.runs_per_gpu; or fewer executor.workers; or a smaller"
    " budget.batch_size, which makes another run",
    "no space": "free space or raise the quota (manage.py prune deletes what is no longer needed), then retry",
    "not finite": "a lower optimizer.peak_lr or a longer optimizer.warmup_fraction, which makes another run",
    "node": "check the disk and the host (logs RUN), then retry",
    "time": "nothing: it resumes from its checkpoint",
    "data": "fix or delete the file that the message names, then retry",
    "bug": "read the traceback (logs RUN); with the same code it fails again",
}


class Board:
    """Live display of a plan's progress; a line now and then where the console is no terminal."""

    def __init__(
        self, plan: Plan, console: Console, *, is_live: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Args:
            is_live: redraw in place, if the console is a terminal.
            clock: gives seconds.
        """
        self._plan = plan
        self._console = console
        self._is_live = is_live and console.is_terminal
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._reader = RunReader()
        self._next_at, self._line_at = float("-inf"), clock()
        ended = {name: one.attempt for name, one in entries(plan.runs_dir).items() if one.state != "running"}
        self._shown = set(ended.items())  # attempts whose failures are not news

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._live.stop()
        if kind is None:
            self._print_failures(plan_status(self._plan, self._reader))

    def update(self) -> None:
        """Read the progress and display it, at most every REFRESH_SECONDS, and more rarely if reading is slow."""
        now = self._clock()
        if now < self._next_at:
            return
        status = plan_status(self._plan, self._reader)
        self._next_at = now + pause(self._clock() - now)
        self._print_failures(status)
        if self._is_live:
            self._live.update(rendered([status]), refresh=True)
        elif now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self._console.print(f"{status.name}: {headline(status)}", highlight=False, soft_wrap=True)

    def _print_failures(self, status: SweepStatus) -> None:
        """Print the runs that have failed since the last reading."""
        failed = [run for run in status.runs if run.state == "failed" and run.note]
        if new := [run for run in failed if (run.run, run.attempt) not in self._shown]:
            self._console.print(failures(new), soft_wrap=True)
        self._shown |= {(run.run, run.attempt) for run in new}


def pause(reading: float) -> float:
    """Return the seconds until the next reading, given those that the last one took."""
    return max(REFRESH_SECONDS, BACK_OFF * reading)


def print_failures(console: Console, plan: Plan, names: Collection[str]) -> bool:
    """Print why these runs have no result. Return True if there is such a run."""
    left = [run for run in plan_status(plan).runs if run.run in names and run.state != "done"]
    tried = [run if run.attempt else replace(run, note="no worker tried it") for run in left]
    if left:
        console.print(failures(tried), soft_wrap=True)
    return bool(left)


def rendered(sweeps: list[SweepStatus]) -> RenderableType:
    """Render sweeps: progress, arms, active runs, failures by cause, and what other runs wait for."""
    if not sweeps:
        return Text("nothing was launched into this folder yet")
    return Group(*(part for sweep in sweeps for part in _parts(sweep)))


def headline(sweep: SweepStatus) -> str:
    """Return a sweep's progress in a line."""
    counts = ", ".join(f"{sweep.count(state)} {state}" for state in STATE_STYLES if sweep.count(state))
    launches = f"{sweep.num_launches} active launch{'es' * (sweep.num_launches != 1)}"
    waiting = f"; {waiting_workers(sweep.num_waiting)}" if sweep.num_waiting else ""
    left = "" if sweep.seconds_left is None else f"; about {duration(sweep.seconds_left)} of training left"
    return f"{len(sweep.runs)} runs, {counts}; {sweep.samples:,} of {sweep.budget:,} samples; {launches}{waiting}{left}"


def failures(failed: list[RunStatus]) -> RenderableType:
    """Render failed runs by cause, with the first one's message and advice."""
    lines = []
    for cause in dict.fromkeys(run.cause for run in failed):
        runs = [run for run in failed if run.cause == cause]
        first = f"{runs[0].arm}, seed {runs[0].seed} ({runs[0].run})"
        which = first if len(runs) == 1 else f"{len(runs)} runs, the first of them {first},"
        why = f"failed, {cause}" if cause else "not done"
        lines.append(Text(f"{which} {why}: {runs[0].note}", style="red"))
        lines += [Text(f"  {ADVICE[cause]}")] if cause in ADVICE else []
    return Group(*lines)


def _parts(sweep: SweepStatus) -> list[RenderableType]:
    running, failed = ([run for run in sweep.runs if run.state == state] for state in ("running", "failed"))
    question = f": {escape(sweep.question)}" if sweep.question else ""
    parts: list[RenderableType] = [
        Text.from_markup(f"[bold]{sweep.name}[/bold]{question}"),
        Text(headline(sweep)),
        *map(Text, sweep.queue),
    ]
    if running:
        parts.append(ProgressBar(total=max(sweep.budget, 1), completed=sweep.samples, width=BAR_WIDTH))
    parts.append(_arms(sweep))
    if running:
        parts.append(_running(running))
    if failed:
        parts.append(failures(failed))
    for note in sorted({run.note for run in sweep.runs if run.state == "waiting"}):
        runs = [run for run in sweep.runs if run.state == "waiting" and run.note == note]
        which = f"{runs[0].arm}, seed {runs[0].seed}" if len(runs) == 1 else f"{len(runs)} runs"
        parts.append(Text(f"waiting, {which}: {note}"))
    if sweep.code:
        parts.append(Text(f"note: {sweep.code}"))
    if sweep.report:
        parts.append(Text(f"report: {sweep.report}"))
    return [*parts, Text("")]


def _arms(sweep: SweepStatus) -> Table:
    columns = (Column(name, justify="right") for name in (*STATE_STYLES, "samples"))
    table = Table("arm", *columns, box=SIMPLE_HEAD)
    for arm in dict.fromkeys(run.arm for run in sweep.runs):
        runs = [run for run in sweep.runs if run.arm == arm]
        counts = {state: sum(run.state == state for run in runs) for state in STATE_STYLES}
        shown = [f"[{STATE_STYLES[state]}]{count}[/]" if count else "" for state, count in counts.items()]
        trained, budget = sum(run.samples for run in runs), sum(run.budget for run in runs)
        table.add_row(arm, *shown, f"{trained / budget:.0%}" if budget else "")
    return table


def _running(running: list[RunStatus]) -> Group:
    names = ("done", "images/s", "left", "loss", "± seeds")
    columns = [Column(name, justify="right", no_wrap=name != "loss") for name in names]
    titles = [Column(name, no_wrap=True) for name in ("running", "run")]
    table = Table(*titles, *columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = sorted(running, key=lambda run: not run.note)[:MAX_SHOWN_RUNNING]  # what looks wrong comes first
    for run in shown:
        against = run.loss_against_other_seeds
        table.add_row(
            f"{run.arm}, {run.seed}",
            run.run,
            f"{run.samples / run.budget:.0%}" if run.budget else "",
            f"{run.images_per_second:.0f}" if run.images_per_second else "",
            "" if run.seconds_left is None else duration(run.seconds_left),
            run.losses,
            "" if against is None else f"{against:+.3f}",
        )
    more = [Text(f"and {len(running) - len(shown)} more")] if len(running) > len(shown) else []
    notes = [f"{run.arm}, {run.seed} on {run.host or 'an unknown host'}: {run.note}" for run in shown if run.note]
    return Group(table, *more, *map(Text, notes))
