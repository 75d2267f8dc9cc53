"""What a launch will do, as it shows that before it starts: arms, what is done, and the price of the rest."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from aimv2.ablations.expand import Cell, announcements, off_ratios
from aimv2.ablations.recorded_runs import recorded_runs
from aimv2.ablations.request import Request
from aimv2.ablations.study import UNEQUAL, UNTRAINED, Equal, Study, is_untrained
from aimv2.base.errors import UsageError
from aimv2.config.arguments import as_typed
from aimv2.config.program import Program, differences
from aimv2.definitions.programs import flops_per_sample
from aimv2.run.price import Clock, duration, price
from aimv2.run.reuse import Training, reusable
from aimv2.runs.provenance import code_of_result, digest
from aimv2.runs.record import entries
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.plan import Plan, Work, code_note, restart_note

MAX_SHOWN_SEEDS = 12
MAX_SHOWN_VALUES = 4


def report_note(request: Request, reports_dir: Path) -> str:
    """Return which report the launch will replace; empty unless there is one of other runs with the same seeds."""
    reported = recorded_runs(reports_dir, request.folder)
    requested = {(cell.arm, cell.seed): cell.name for cell in request.cells if not is_untrained(cell.arm)}
    shared = reported.keys() & requested.keys()
    if not shared or any(reported[one] == requested[one] for one in shared):
        return ""
    return (
        f"{reports_dir / request.folder} is the report of runs with other values, and will be replaced;"
        " sweep.suffix=NAME gives the new one a folder of its own"
    )


@dataclass(frozen=True)
class PlannedSweep:
    """What the launch of a study will do: its missing runs."""

    study: Study
    plan: Plan
    only: Collection[str] | None = None  # names of the runs to execute; None is all that are missing
    is_dry_run: bool = False  # write nothing
    measured: Mapping[str, Training] | None = None  # that runs reuse, by name; None are those of this code

    @cached_property
    def remaining(self) -> list[str]:
        missing = self.plan.remaining(repair=not self.is_dry_run)
        self.plan.check_finished(set(missing))
        return [name for name in missing if self.only is None or name in self.only]

    @cached_property
    def work(self) -> Work:
        return self.plan.work(self.remaining, {name: one.folder for name, one in self.reused.items()})

    @cached_property
    def reused(self) -> Mapping[str, Training]:
        """The trainings that runs reuse, by name."""
        if self.measured is not None:
            return self.measured
        return {name: one for name, one in self._reusable.items() if one.is_ours}

    @cached_property
    def _reusable(self) -> dict[str, Training]:
        configs = ((name, self.plan.cell_of[name].config) for name in self.remaining)
        return reusable({name: config for name, config in configs if config.num_samples}, self.plan.runs_dir)

    def show(self, console: Console, executor: Executor, clock: Clock) -> None:
        """Print the study, the change and the cost of each arm, which runs are done, and the price of the rest."""
        study, plan, remaining = self.study, self.plan, self.remaining
        print_study(console, study.slug, study)
        arms = dict.fromkeys(cell.arm for cell in plan.cells)
        by_arm = {arm: [cell for cell in plan.cells if cell.arm == arm] for arm in arms}
        baseline = by_arm.get(study.baseline, plan.cells)[0].config
        actual_levels = off_ratios(study, plan.cells)
        for arm, cells in by_arm.items():
            change = _change(study, arm, cells[0].config, baseline)
            if arm in actual_levels:
                change += f" ({study.label(arm)}; here {actual_levels[arm]})"
            console.print(f"  {arm}: {change}", soft_wrap=True, markup=False)
        console.print(_arms_table(study, by_arm, baseline, set(remaining), clock))
        console.print("time: training and evaluation of a run; MB: its weights, which stay on disk", soft_wrap=True)
        seeds = list(dict.fromkeys(cell.seed for cell in plan.cells))
        which = f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= MAX_SHOWN_SEEDS else f"{len(seeds)} seeds"
        todo = f"{len(plan.runs)} runs, {len(remaining)} to do"
        console.print(f"scale {baseline.label}, {which}, arms at equal {study.equal}: {todo}", soft_wrap=True)
        found = entries(plan.runs_dir)
        restart = restart_note(
            plan.runs[name] for name in remaining if name in found and found[name].state != "running"
        )
        trained = [self.reused[name].code if name in self.reused else digest() for name in remaining]
        new = dict.fromkeys(map(code_of_result, trained))
        code = code_note(found, plan.runs, new, is_allowed=study.allow_mixed_code)
        for note in filter(None, [code, restart, *self._reuse_notes(), *plan.broken_results()]):
            console.print(f"note: {note}", soft_wrap=True, markup=False)
        if remaining:
            console.print(price_of(self.work.priced, clock, executor), soft_wrap=True)

    def _reuse_notes(self) -> Iterator[str]:
        """Say how many runs reuse the training of finished ones, and how many could."""
        if num_reused := sum(name in self.reused for name in self.remaining):
            codes = ", ".join(dict.fromkeys(one.code for one in self.reused.values()))
            which = f"finished runs that differ in evaluation only, trained by code {codes}"
            yield f"{num_reused} of these runs measure the weights of {which}"
        if self.measured is None and (left := self._reusable.keys() - self.reused.keys()):
            yield (
                f"{len(left)} of these runs are trained again, though finished runs of other code or another torch"
                f" differ in evaluation only; to measure the weights of these instead: {as_typed('manage')} measure"
            )


class Planned(Protocol):
    """What the launch of a study or of a search will do."""

    @property
    def work(self) -> Work:
        """Its tasks."""

    def show(self, console: Console, executor: Executor, clock: Clock) -> None:
        """Print the plan and its price."""


@dataclass(frozen=True)
class PlannedTogether:
    """What a launch will do for a study or a search, and for the sensitivity study that its verdicts need."""

    sensitivity: PlannedSweep
    own: Planned

    @cached_property
    def work(self) -> Work:
        """The runs of both; one that they share is done once."""
        own = self.own.work
        more = [task for task in self.sensitivity.work.tasks if task.name not in own.runs]
        return replace(own, tasks=[*more, *own.tasks])

    def show(self, console: Console, executor: Executor, clock: Clock) -> None:
        """Print both plans, each with its price, and the price of both together."""
        self.sensitivity.show(console, executor, clock)
        self.own.show(console, executor, clock)
        if tasks := self.work.tasks:
            num_shared = len(self.sensitivity.work.tasks) + len(self.own.work.tasks) - len(tasks)
            shared = f", {num_shared} of them for both" * bool(num_shared)
            together = f"together: {len(tasks)} runs to do{shared}; {price_of(self.work.priced, clock, executor)}"
            console.print(together, soft_wrap=True)


def print_study(console: Console, name: str, study: Study) -> None:
    """Print the question of a study, and how it was adapted to its data."""
    console.print(f"[bold]{name}[/bold]: {study.question}", soft_wrap=True)
    for sentence in announcements(study):
        console.print(f"note: {sentence}", soft_wrap=True, markup=False)


def price_of(configs: Sequence[Program], clock: Clock, executor: Executor) -> str:
    """Return the price of runs in a sentence, with the time that the executor's workers need if it is known."""
    cost = price(configs, clock)
    try:
        num_workers = min(executor.num_workers(configs), len(configs))
    except UsageError as error:
        return f"price: {cost.described(0)}; {error}"
    workers, wall = f"{num_workers} worker{'s' * (num_workers > 1)}", cost.wall_seconds(num_workers)
    if wall is None:
        reason = "dry_run=true price=true or limit= measures it, unless the models are too large for this machine"
        if any(config.kind for config in configs):  # of another model, which is not measured
            reason = "no run like these has finished here yet"
        elif executor.speed_unknown:
            reason = f"{executor.speed_unknown}; it is once a run like these has finished there"
        time = f"{workers}; the time is not known: {reason}"
    else:
        longest = ", as long as the longest run" if wall == cost.longest_seconds and num_workers > 1 else ""
        time = f"{duration(wall)} on {workers}{longest}{cost.basis}"
        time += f"; {used}" if (used := cost.hours_text) else ""
    return f"price: {cost.described(num_workers)}; {time}"


def _arms_table(
    study: Study, by_arm: Mapping[str, list[Cell]], baseline: Program, remaining: set[str], clock: Clock
) -> Table:
    """Render a row per arm: its runs, and the cost of one, marked where the study holds it equal and it is not."""
    numbers = ("runs", "done", "samples", "FLOPs a run", "time", "MB")
    columns = (Column(name, justify="right") for name in numbers)
    table = Table("arm", *columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    baseline_cost = _compared(study.equal, baseline)
    for arm, cells in by_arm.items():
        config, cost = cells[0].config, price([cells[0].config], clock)
        own = _compared(study.equal, config)
        flops = own if study.equal == "flops" else cost.flops
        shown = {
            "samples": f"{config.num_samples:,}",
            "flops": f"{flops:.2e}" if flops else "0",
            "seconds": "unknown" if cost.seconds is None else duration(cost.seconds),
        }
        if not is_untrained(arm) and baseline_cost and abs(own / baseline_cost - 1) >= UNEQUAL:
            shown[study.equal] += f", {own / baseline_cost:.2f} x"
        done = sum(cell.name not in remaining for cell in cells)
        table.add_row(arm, str(len(cells)), str(done), *shown.values(), f"{cost.weights_bytes / 1e6:,.1f}")
    return table


def _compared(equal: Equal, config: Program) -> float:
    """Return the cost of a run that a study holds equal: samples or expected training FLOPs."""
    return config.num_samples * (1 if equal == "samples" else flops_per_sample(config))


def _change(study: Study, arm: str, config: Program, baseline: Program) -> str:
    """Return the values that differ from the baseline's, or the arm's label if there are none or many."""
    if arm == UNTRAINED:
        return "the baseline's encoder before training"
    if is_untrained(arm):
        return study.label(arm)
    changed = differences(config.with_seed(baseline.seed), baseline)
    changed.pop("plugins", None)
    values = " ".join(f"{path}={value}" for path, value in changed.items() if value is not None)
    return values if 0 < len(changed) <= MAX_SHOWN_VALUES else study.label(arm)
