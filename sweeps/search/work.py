"""The work of a search: trials that workers draw as they go, the runs that confirm the winner, and the outcome."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aimv2.ablations.design import Range
from aimv2.ablations.expand import Cell
from aimv2.ablations.request import Request, write_request
from aimv2.ablations.searches import VERSION, path_of
from aimv2.ablations.study import WINNER, confirmation
from aimv2.base.files import write_json
from aimv2.config.arguments import as_typed
from aimv2.config.program import Program, replaced
from aimv2.run.price import Clock
from aimv2.runs import index
from aimv2.runs.lease import Watch
from aimv2.runs.record import RunFolder
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.plan import OpenTasks, Plan, Task, TaskList, Trials, Work
from aimv2.sweeps.plan_display import price_of, print_study
from aimv2.sweeps.search.space import NONE, SPLIT, Search, described
from aimv2.sweeps.search.trials import SearchFolder, Trial, folder_of, in_state, trials_of

if TYPE_CHECKING:
    import optuna


class SearchTasks(TaskList):
    """The tasks of a search: its unfinished trials, trials to be drawn, and others: the runs that confirm the winner,
    as far as they are known, and those of a study that is done beside the search."""

    def __init__(self, folder: SearchFolder, others: Sequence[Task], watch: Watch | None = None) -> None:
        super().__init__([], folder.runs_dir, watch)
        self.folder = folder
        self._others = {task.name: task for task in others}
        self.after: Mapping[str, int] = {}  # latest attempts at the winner's other runs before this launch

    def open_tasks(self) -> OpenTasks:
        """As of other tasks; a free task without a name is a trial to be drawn. Trials that are over are recorded."""
        folder, others = self.folder, dict(self._others)
        trials = folder.trials
        num_new, running = folder.num_new(trials), [folder.task(trial) for trial in in_state(trials, "running")]
        if not num_new and not running:
            cells = winner_cells(folder.search, folder.winner(trials))
            folder.show_winners([cell.name for cell in cells])
            for cell in cells:
                others.setdefault(cell.name, Task(cell.name, cell.config, self.after.get(cell.name, 0)))
        self._tasks = [*running, *others.values()]
        now = super().open_tasks()
        if over := {task.name for task in running} - {task.name for task in (*now.free, *now.unsure, *now.held)}:
            folder.settle(over)
            return self.open_tasks()
        now.free.extend(Task("", folder.search.costliest, 0, trial=len(trials)) for _ in range(num_new))
        entries = index.read(self._runs_dir)
        ended = entries.keys() & {trial.run for trial in trials} - {task.name for task in self._tasks}
        return now._replace(num_attempts=now.num_attempts + sum(entries[run].attempt for run in ended))

    def take(self) -> Iterator[Task]:
        """Yield trials that lost their worker, then new ones, then runs that confirm the winner."""
        free = self.open_tasks().free
        yield from (task for task in free if task.name and task.trial is not None)
        while (task := self.folder.ask()) is not None:
            yield task
        yield from (task for task in free if task.trial is None)

    def skip(self, task: Task, reason: str) -> None:
        """Record that a trial has failed, so that another one takes its place."""
        if task.trial is not None:
            self.folder.end(replace(self.folder.trials[task.trial], state="failed", note=reason))


@dataclass(frozen=True)
class SearchWork(Work):
    """The work of a search's launch, with the numbers of the trials that had failed."""

    search: Search
    request: Request
    failed_before: frozenset[int] = frozenset()

    @property
    def priced(self) -> list[Program]:
        """With the runs of the winner, which is not known until all trials are over."""
        is_open = any(task.trial is not None for task in self.tasks)
        return [*self.configs, *([self.search.costliest] * len(self.search.seeds) if is_open else [])]

    def task_list(self, runs_dir: Path, watch: Watch | None = None) -> SearchTasks:
        others = [task for task in self.tasks if task.trial is None]
        return SearchTasks(SearchFolder(self.search, runs_dir, failed_before=self.failed_before), others, watch)

    def trials(self, runs_dir: Path) -> Trials:
        return trials_of(runs_dir, self.search.name)

    def finish(self, runs_dir: Path, console: Console) -> Sequence[Cell]:
        """Print the outcome, write the file that the report reads, and request and return the winner's runs."""
        tasks, request = self.task_list(runs_dir), self.request
        tasks.open_tasks()  # records the trials that are over
        folder, trials = tasks.folder, tasks.folder.trials
        winner = folder.winner(trials)
        cells = winner_cells(self.search, winner)
        print_outcome(self.search, trials, winner, cells, console)
        outcome = to_json(folder, trials, winner, is_baseline=winner is not None and not cells)
        if winner is not None and cells:
            label = f"trial {winner.number}: {described(winner.params)}"
            arm = replace(self.search.study.design.point(winner.params), label=label)
            study = confirmation(request.study, {**request.study.arms, WINNER: arm})
            request = replace(request, study=study, cells=[*request.cells, *cells])
        write_json(path_of(runs_dir, self.search.name), outcome)
        write_request(runs_dir, request)
        return cells

    def is_complete(self, runs_dir: Path) -> bool:
        """True if as many trials are finished or pruned as requested, and one of them is the winner."""
        folder = SearchFolder(self.search, runs_dir, is_read_only=True)
        trials = folder.trials
        return len(in_state(trials, "finished", "pruned")) >= self.search.num_trials and bool(folder.winner(trials))


def winner_cells(search: Search, winner: Trial | None) -> list[Cell]:
    """Return the winner's runs on the seeds that confirm it; empty if there is no winner, or if it is the baseline."""
    if winner is None:
        return []
    split = search.base.evaluation.split
    runs = {seed: replaced(search.run(winner.params, seed), {"evaluation.split": split}) for seed in search.seeds}
    baseline = search.study.arms[search.study.baseline].change(search.base)
    if runs[search.seeds[0]] == replace(baseline, seed=search.seeds[0]):
        return []
    return [Cell(arm=WINNER, seed=seed, config=run) for seed, run in runs.items()]


def to_json(
    folder: SearchFolder, trials: Sequence[Trial], winner: Trial | None, *, is_baseline: bool
) -> dict[str, Any]:
    """Return the search as the report reads it (``ablations/searches.py``)."""
    search = folder.search
    space = search.definition()["space"]
    return {
        "version": VERSION,
        "study": search.study.slug,
        "sampler": search.config.sampler,
        "pruner": NONE,
        "seed": search.config.seed,
        "split": SPLIT,
        "metrics": [{"name": search.metric, "direction": search.goal.direction, "unit": search.goal.unit}],
        "curve": None,
        "space": [{"name": name} | (about if "low" in about else {"levels": about}) for name, about in space.items()],
        "trials": [_trial_to_json(folder, trial) for trial in trials],
        "front": [] if winner is None else [winner.number],
        "winner": None if winner is None else winner.number,
        "is_baseline": is_baseline,
        "importances": importances(folder.study(trials)),
    }


def _trial_to_json(folder: SearchFolder, trial: Trial) -> dict[str, Any]:
    config = folder.task(trial).config
    return {
        "number": trial.number,
        "state": trial.state,
        "params": trial.params,
        "values": list(trial.values) or None,
        "run": trial.run,
        "curve": [],
        "samples": trial.spent.get("samples", 0),
        "budget": config.num_samples,
        "flops": trial.spent.get("flops", 0),
        "seconds": trial.spent.get("seconds", 0.0),
        "note": trial.note or trial.kept,
    }


def importances(study: "optuna.Study") -> dict[str, float]:
    """Return the share of the metric's variance that each factor explains (fANOVA, Hutter et al. 2014); empty with one
    factor, or where too few trials differ."""
    import optuna

    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(finished) < 4 or len(finished[0].params) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # all values are equal
        return {}
    return {name: float(share) for name, share in shares.items()}


def print_outcome(
    search: Search, trials: Sequence[Trial], winner: Trial | None, cells: Sequence[Cell], console: Console
) -> None:
    """Print why trials have no result, and the winner. The report lists all trials."""
    num_ended, num_failed = len(in_state(trials, "finished", "pruned")), len(in_state(trials, "failed"))
    for trial in trials:
        if trial.note:
            text = f"trial {trial.number}, {trial.state}: {trial.note}; {as_typed('manage')} logs {trial.run}"
            console.print(f"{text} shows more", soft_wrap=True)
    if num_failed and num_ended < search.num_trials:
        console.print(
            f"{num_failed} trial{'s have' if num_failed > 1 else ' has'} failed, and {num_ended} of"
            f" {search.num_trials} are finished or pruned; fix the cause, and launch again for the others",
            style="red",
            soft_wrap=True,
        )
    if winner is None:
        console.print("no trial has finished, so there is no winner", style="red")
        return
    best = f"best of {len(in_state(trials, 'finished'))} finished: trial {winner.number}"
    if cells:
        text = f"{best}, {described(winner.params)}, with {search.metric} {winner.values[0]:.4g}"
        seeds = ", ".join(map(str, search.seeds))
        text += f". The report compares it with the baseline on seeds {seeds}, which no trial has seen"
    else:
        text = f"{best}, the baseline itself, so there is nothing to confirm"
    console.print(text, soft_wrap=True)


@dataclass(frozen=True)
class PlannedSearch:
    """What the launch of a search will do: the trials that are left, and the runs that confirm the winner."""

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
        cells = winner_cells(self.search, folder.winner(trials))
        tasks.after = {cell.name: RunFolder(self.runs_dir, cell.name).num_attempts for cell in cells}
        now = tasks.open_tasks()
        return SearchWork([*now.free, *now.unsure, *now.held], self.search, request, folder.failed_before)

    def show(self, console: Console, executor: Executor, clock: Clock) -> None:
        """Print the space, how it is searched, and the price of what is left of it."""
        search, study, config = self.search, self.search.study, self.search.config
        print_study(console, search.name, study)
        for name, factor in study.design.space.items():
            levels = ", ".join(factor) if not isinstance(factor, Range) else f"{factor.low:g} to {factor.high:g}"
            scale = ", on a logarithmic scale" * (isinstance(factor, Range) and factor.log)
            console.print(f"  {name}: {levels}{scale}", soft_wrap=True, markup=False)
        left = self.work.priced
        lines = [
            f"{search.goal.direction} {search.metric} on the {SPLIT} split; sampler {config.sampler},"
            f" trials with seed {config.seed}",
            f"then the winner is compared with the baseline, {study.baseline}, on seeds"
            f" {', '.join(map(str, search.seeds))}; that is the result",
            f"scale {search.base.scale}, {search.num_trials} trials:"
            f" {trials_of(self.runs_dir, search.name).described or 'none yet'}",
        ]
        if search.num_trials < config.trials:
            lines.append(f"note: the space has {search.num_trials} points, and each is tried once")
        lines.append(price_of(left, clock, executor) if left else "nothing is left to do")
        for line in lines:
            console.print(line, soft_wrap=True)
