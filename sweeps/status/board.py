"""What a launch shows: the plan and its price, a live board (or now and then a line), and what failed."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from ablations.budget import UNEQUAL, Equal
from ablations.expand import Cell
from ablations.study import UNTRAINED, Study
from aimv2.config.paths import differences
from aimv2.config.run_config import RunConfig
from aimv2.config.scales import SCALES
from aimv2.errors import UsageError
from aimv2.runs.failure import Failure
from aimv2.runs.record import State
from aimv2.runs.rows import losses_of
from sweeps.executors.base import Executor
from sweeps.plan import Plan
from sweeps.pricing.price import Clock, Price, price
from sweeps.pricing.timing import known_run_seconds
from sweeps.status.status import loss_against_siblings

LINE_SECONDS = 30.0
MAX_SHOWN_SEEDS = 12
NEVER_TRIED = Failure("node", "no worker tried it")
MAX_SHOWN_VALUES = 4


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
        self._failed = {name for name, state in plan.states().items() if state == "failed"}  # which were before

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
        self._show_failures(states)
        self._show_running(running)
        if not self._is_live and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            total = self._overall.tasks[0].total or 0
            self._console.print(f"{self._plan.title}: {summary}; {samples:,} of {total:,.0f} samples", highlight=False)

    def _losses(self, name: str, row: dict[str, float]) -> str:
        """The losses, and how the first of them compares with other seeds of the arm at that step."""
        against = loss_against_siblings(self._plan.cell_of[name], self._plan.cells, self._plan.runs_dir, row)
        return losses_of(row) + (f" ({against:+.3f} against other seeds)" if against is not None else "")

    def _show_failures(self, states: Mapping[str, State]) -> None:
        """Say of each run that failed since the last look why it did, once."""
        for name, state in states.items():
            if state == "failed" and name not in self._failed:
                failure = self._plan.runs[name].failure() or NEVER_TRIED
                sentence = f"{self._titles[name]} failed, {failure.cause}: {failure.message}"
                self._console.print(sentence, style="red", soft_wrap=True, markup=False)
        self._failed = {name for name, state in states.items() if state == "failed"}

    def _show_running(self, running: list[tuple[str, int, dict[str, float]]]) -> None:
        for name in set(self._tasks) - {name for name, _, _ in running}:
            self._single.remove_task(self._tasks.pop(name))
        for name, budget, row in running:
            if name not in self._tasks:
                self._tasks[name] = self._single.add_task(self._titles[name], total=budget or 1, state="")
            at_end = row.get("samples", 0) >= budget
            state = "evaluating" if at_end else self._losses(name, row) or "starting"
            self._single.update(self._tasks[name], completed=row.get("samples", 0), state=state)


def described_sweeps(studies: Iterable[Study]) -> str:
    """Each study's question, and its price at the demo's scale; with the time, where that was measured here before."""
    from aimv2.config.resolve import resolve

    base = resolve(SCALES["demo"]())
    lines = []
    for study in studies:
        configs = [cell.config for cell in study.cells(base)]
        cost = price(configs, known_run_seconds)
        takes = "" if cost.seconds is None else f", {duration(cost.seconds)} by one worker"
        lines += [
            f"  {study.slug}",
            f"    {study.question}",
            f"    {len(configs)} runs, {cost.flops:.1e} training FLOPs{takes}",
        ]
    return "\n".join(lines)


def print_plan(
    console: Console,
    study: Study,
    plan: Plan,
    executor: Executor,
    remaining: list[str],
    clock: Clock,
) -> None:
    """The study, what each arm changes and costs, what is done and will be skipped, and the price of the rest."""
    console.print(f"[bold]{study.slug}[/bold]: {study.question}", soft_wrap=True)
    by_arm: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        by_arm.setdefault(cell.arm, []).append(cell)
    baseline = by_arm.get(study.baseline, plan.cells)[0].config
    came_to = study.off_levels(plan.cells)
    for arm, cells in by_arm.items():
        what = _what_changes(study, arm, cells[0].config, baseline)
        if arm in came_to:
            what += f" ({study.label(arm)}; here {came_to[arm]})"
        console.print(f"  {arm}: {what}", soft_wrap=True, markup=False)
    console.print(_arms_table(study, by_arm, baseline, set(remaining), clock))
    console.print("time: of a run's training and evaluation; MB: of its weights, which are kept", soft_wrap=True)
    seeds = list(dict.fromkeys(cell.seed for cell in plan.cells))
    which = f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= MAX_SHOWN_SEEDS else f"{len(seeds)} seeds"
    todo = f"{len(plan.runs)} runs, {len(remaining)} to do"
    console.print(f"scale {baseline.scale}, {which}, arms at equal {study.equal}: {todo}", soft_wrap=True)
    if remaining:
        configs = plan.configs(remaining)
        console.print(_priced(price(configs, clock), executor, configs), soft_wrap=True)


def _priced(cost: Price, executor: Executor, configs: list[RunConfig]) -> str:
    flops, weights = f"price: at most {cost.flops:.2e} training FLOPs", f"{_megabytes(cost.weights_bytes)} of weights"
    try:
        workers = min(executor.num_workers(configs), len(configs))
    except UsageError as error:
        return f"{flops}; {weights}; {error}"
    checkpoints = cost.disk_bytes(workers) - cost.weights_bytes
    disk = weights + (f" and, under way, {_megabytes(checkpoints)} of checkpoints" if checkpoints else "")
    return f"{flops}; {disk}; {_time_needed(cost, executor, workers)}"


def _time_needed(cost: Price, executor: Executor, workers: int) -> str:
    who = executor.describe_workers(workers)
    if executor.speed_unknown:
        return f"{who}; {executor.speed_unknown}"
    wall = cost.wall_seconds(workers)
    if wall is None:
        return f"this machine cannot train these models to say how long {who} would take"
    longest = ", as long as the longest run" if wall == cost.longest_seconds and workers > 1 else ""
    return f"{duration(wall)} of training and evaluation on {who}{longest}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"


def _arms_table(
    study: Study, by_arm: Mapping[str, list[Cell]], baseline: RunConfig, remaining: set[str], clock: Clock
) -> Table:
    """A row an arm: how many runs, the seeds that are done and will be skipped, and what a run costs; marked where that
    is not the baseline's and the study holds it equal."""
    numbers = ("runs", "skipped", "samples", "FLOPs a run", "time", "MB")
    columns = (Column(name, justify="right") for name in numbers)
    table = Table("arm", *columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    whole = _costs(baseline, price([baseline], clock))
    for arm, cells in by_arm.items():
        config, cost = cells[0].config, price([cells[0].config], clock)
        mark = "" if arm == UNTRAINED else _unequal(_costs(config, cost)[study.equal], whole[study.equal])
        marks: dict[Equal, str] = {study.equal: mark}
        table.add_row(
            arm,
            str(len(cells)),
            _shown_seeds([cell.seed for cell in cells if cell.name not in remaining], len(cells)),
            f"{config.budget.samples:,}" + marks.get("samples", ""),
            f"{cost.flops:.2e}" + marks.get("flops", ""),
            ("unknown" if cost.seconds is None else duration(cost.seconds)) + marks.get("seconds", ""),
            f"{cost.weights_bytes / 1e6:,.1f}",
        )
    return table


def _costs(config: RunConfig, cost: Price) -> dict[Equal, float | None]:
    return {"samples": config.budget.samples, "flops": cost.flops, "seconds": cost.training_seconds}


def _unequal(cost: float | None, baseline: float | None) -> str:
    """How many times the baseline's, where that is known and not the same."""
    if cost is None or not baseline or abs(cost / baseline - 1) < UNEQUAL:
        return ""
    return f", {cost / baseline:.2f} x"


def _what_changes(study: Study, arm: str, config: RunConfig, baseline: RunConfig) -> str:
    """The values that an arm has otherwise than the baseline, or what people call it where there are none, or many."""
    if arm == UNTRAINED:
        return "the baseline's encoder before training"
    changed = differences(replace(config, seed=baseline.seed), baseline)
    values = " ".join(f"{path}={value}" for path, value in changed.items() if value is not None)
    return values if 0 < len(changed) <= MAX_SHOWN_VALUES else study.label(arm)


def _shown_seeds(skipped: list[int], num_cells: int) -> str:
    if not skipped:
        return "none"
    if len(skipped) == num_cells:
        return "all"
    return f"seed{'s' * (len(skipped) > 1)} {', '.join(map(str, skipped))}"


def print_failures(console: Console, plan: Plan, names: Collection[str]) -> bool:
    """Name each of these runs that failed, and why."""
    has_failed = False
    for cell in plan.cells:
        run = plan.runs[cell.name]
        if cell.name in names and not run.is_done:
            has_failed = True
            failure = run.failure() or NEVER_TRIED
            sentence = f"{cell.arm}, seed {cell.seed} ({cell.name}) failed, {failure.cause}: {failure.message}"
            console.print(sentence, style="red", soft_wrap=True, markup=False)
    return has_failed


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
