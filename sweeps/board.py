"""What a launch shows: the plan and its price, a live board (or now and then a line), and what failed."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ablations.study import UNTRAINED, Study
from aimv2.record import Failure, losses_of
from sweeps.calibrate import images_per_second
from sweeps.executors import ExecutorConfig
from sweeps.plan import Plan

LINE_SECONDS = 30.0
DIED = Failure("worker died", "it ended without a word; killed, or out of memory?")


class Board:
    """Progress of a plan's runs, read from their folders."""

    def __init__(self, plan: Plan, console: Console, *, is_live: bool) -> None:
        self._plan = plan
        self._console = console
        self._is_live = is_live and console.is_terminal
        self._titles = {cell.name: f"{cell.arm}, seed {cell.seed}" for cell in plan.cells}
        self._overall = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            "samples",
            TimeElapsedColumn(),
            "elapsed,",
            TimeRemainingColumn(),
            "left",
            console=console,
        )
        self._single = Progress(
            "  {task.description}", BarColumn(bar_width=20), "{task.fields[state]}", console=console
        )
        budgets = [plan.cell_of[name].config.budget.samples for name in plan.runs]
        self._whole = self._overall.add_task(plan.title, total=sum(budgets))
        self._tasks: dict[str, TaskID] = {}
        self._live = Live(Group(self._overall, self._single), console=console, refresh_per_second=2, transient=True)
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self) -> None:
        """Read the folders and redraw."""
        states = self._plan.states()
        samples, running = 0, []
        for name, state in states.items():
            budget = self._plan.cell_of[name].config.budget.samples
            if state == "done":
                samples += budget
            elif state == "running":
                row = self._plan.runs[name].last_row()
                samples += row.get("samples", 0)
                running.append((name, budget, row))
        counts = {state: list(states.values()).count(state) for state in ("done", "running", "failed", "new")}
        summary = ", ".join(
            f"{count} {'waiting' if state == 'new' else state}" for state, count in counts.items() if count
        )
        self._overall.update(self._whole, completed=samples, description=f"{self._plan.title}: {summary}")
        self._show_running(running)
        if not self._is_live and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            total = self._overall.tasks[0].total or 0
            self._console.print(f"{self._plan.title}: {summary}; {samples:,} of {total:,.0f} samples", highlight=False)

    def _show_running(self, running: list[tuple[str, int, dict[str, float]]]) -> None:
        for name in set(self._tasks) - {name for name, _, _ in running}:
            self._single.remove_task(self._tasks.pop(name))
        for name, budget, row in running:
            if name not in self._tasks:
                self._tasks[name] = self._single.add_task(self._titles[name], total=budget or 1, state="")
            at_end = row.get("samples", 0) >= budget
            state = "evaluating" if at_end else losses_of(row) or "starting"
            self._single.update(self._tasks[name], completed=row.get("samples", 0), state=state)


def print_plan(
    console: Console, study: Study, plan: Plan, executor: ExecutorConfig, remaining: list[str], *, is_dry: bool
) -> None:
    """The study, its arms, what of it is done, and what the rest costs."""
    seeds = sorted({cell.seed for cell in plan.cells})
    console.print(f"[bold]{study.slug}[/bold]: {study.question}")
    table = Table("arm", "", "runs", "done", "samples a run")
    for arm in dict.fromkeys(cell.arm for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.arm == arm]
        label = "its encoder before training" if arm == UNTRAINED else study.arms[arm].label
        is_baseline = " (baseline)" if arm == study.baseline else ""
        done = sum(cell.name not in remaining for cell in cells)
        table.add_row(arm + is_baseline, label, str(len(cells)), str(done), f"{cells[0].config.budget.samples:,}")
    console.print(table)
    todo = f"{len(plan.runs)} runs, {len(remaining)} to do"
    console.print(f"scale {plan.cells[0].config.scale}, seeds {', '.join(map(str, seeds))}: {todo}", soft_wrap=True)
    if remaining:
        speed = images_per_second(plan.cells[0].config, keep=not is_dry)
        samples = sum(plan.cell_of[name].config.budget.samples for name in remaining)
        workers = min(executor.num_workers(plan.cells[0].config.threads), len(remaining))
        time_needed = f"{duration(samples / speed / workers)} of training on {workers} worker{'s' * (workers > 1)}"
        console.print(
            f"price: at most {plan.flops(remaining):.2e} training FLOPs, {plan.disk_bytes(remaining) / 1e6:.0f} MB;"
            f" {time_needed} at {speed:.0f} images/s each, and evaluation",
            soft_wrap=True,
        )


def print_failures(console: Console, plan: Plan) -> bool:
    """Name each run that failed, and why."""
    has_failed = False
    for cell in plan.cells:
        run = plan.runs[cell.name]
        if not run.is_done:
            has_failed = True
            failure = run.failure() or DIED
            sentence = f"{cell.arm}, seed {cell.seed} ({cell.name}) failed, {failure.cause}: {failure.message}"
            console.print(sentence, style="red", soft_wrap=True, markup=False)
    return has_failed


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
