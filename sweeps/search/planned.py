"""What the launch of a search will do: the space, what is done, and the price of the rest."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from aimv2.ablations.design import Factor, Range
from aimv2.ablations.request import Request
from aimv2.run.price import Clock
from aimv2.runs.record import RunFolder
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.plan_display import price_of, print_study
from aimv2.sweeps.search.config import NO_PRUNER, folder_of, with_arguments
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.outcome import winner_cells
from aimv2.sweeps.search.space import SPLIT, Search
from aimv2.sweeps.search.trials import in_state, trials_of
from aimv2.sweeps.search.work import SearchTasks, SearchWork


@dataclass(frozen=True)
class PlannedSearch:
    """What the launch of a search will do: the trials that are left, and the runs that confirm the winner.

    Attributes:
        request: the baseline's runs that confirm the winner.
        is_dry_run: write nothing.
    """

    search: Search
    request: Request
    runs_dir: Path
    is_dry_run: bool = False

    @cached_property
    def work(self) -> SearchWork:
        request, is_new = self.request, not folder_of(self.runs_dir, self.search.name).exists()
        plan = Plan(request.folder, request.cells, self.runs_dir)
        plan.check_finished(set(plan.remaining()) if is_new else ())  # trials read the same data
        folder = SearchFolder(self.search, self.runs_dir, is_read_only=self.is_dry_run)
        SearchTasks(folder, []).open_tasks()  # records the trials that are over
        trials, tasks = folder.trials, SearchTasks(folder, plan.work(plan.runs).tasks)
        # Runs and trials that failed before this launch are tried once more.
        folder.failed_before = frozenset(trial.number for trial in in_state(trials, "failed"))
        found = winner_cells(folder, trials)
        tasks.after = {cell.name: RunFolder(self.runs_dir, cell.name).num_attempts for cell in found}
        now = tasks.open_tasks()
        return SearchWork([*now.free, *now.unsure, *now.held], self.search, request, folder.failed_before)

    def show(self, console: Console, executor: Executor, clock: Clock) -> None:
        """Print the space, how it is searched, and the price of what is left of it."""
        search, study, config = self.search, self.search.study, self.search.config
        print_study(console, search.name, study)
        for name, factor in study.design.space.items():
            console.print(f"  {name}: {_factor(factor)}", soft_wrap=True, markup=False)
        goals = [f"{direction} {metric}" for direction, metric in zip(search.directions, search.metrics, strict=True)]
        sampler = with_arguments(config.sampler, config.sampler_args)
        pruner = with_arguments(search.pruner, config.pruner_args)
        prunes = search.pruner != NO_PRUNER
        pruning = f"pruned by {pruner} on {search.curve}{_noise(search)}" if prunes else "no pruning"
        console.print(
            f"{' and '.join(goals)} on the {SPLIT} split; sampler {sampler}, {pruning}, trials with seed {config.seed}",
            soft_wrap=True,
        )
        console.print(
            f"then the winner is compared with the baseline, {study.baseline}, on seeds"
            f" {', '.join(map(str, search.seeds))}; that is the result",
            soft_wrap=True,
        )
        done = trials_of(self.runs_dir, search.name).described or "none yet"
        console.print(f"scale {search.base.scale}, {search.num_trials} trials: {done}", soft_wrap=True)
        if search.num_trials < config.trials:
            console.print(f"note: the space has {search.num_trials} points, and each is tried once", soft_wrap=True)
        left = self.work.priced
        console.print(price_of(left, clock, executor) if left else "nothing is left to do", soft_wrap=True)


def _noise(search: Search) -> str:
    if not search.noise:
        return " (what differences are noise was not measured: sensitivity=auto measures it)"
    low, high = (f"{of(search.noise.values()):.2g}" for of in (min, max))
    return f" (not within its noise, {low}{f' to {high}' * (low != high)})"


def _factor(factor: Factor | Range) -> str:
    if isinstance(factor, Range):
        return f"{factor.low:g} to {factor.high:g}{', on a logarithmic scale' * factor.log}"
    return ", ".join(factor)
