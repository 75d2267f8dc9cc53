"""The work of a search: trials that workers draw as they go, and the runs that confirm the winner."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from ablations.expand import Cell
from ablations.request import Request
from aimv2.base.errors import UsageError
from aimv2.config.run_config import RunConfig
from aimv2.runs import index
from aimv2.runs.lease import Watch
from aimv2.runs.record import RunFolder
from sweeps.search.config import RUN
from sweeps.search.journal import OPEN, Ending, Journal, readable
from sweeps.search.outcome import finish, is_complete, winner_cells
from sweeps.search.space import Search
from sweeps.search.trials import trials_of
from sweeps.tasks import Follower, OpenTasks, Task, TaskList, Trials, Work


class TrialFollower(Follower):
    """Reports a trial's held-out curve while its run trains, and ends the run if the pruner says so."""

    def __init__(self, journal: Journal, task: Task, stop: Callable[[], None]) -> None:
        assert task.trial is not None
        self.is_stopped = False
        self._journal = journal
        self._trial = journal.trial(task.trial)
        self._column = journal.search.curve
        self._steps = {step: number for number, step in enumerate(task.config.curve_steps)}
        self._stop = stop
        self._sign = journal.search.sign
        self._prunes = journal.search.pruner != "none"

    def on_rows(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            number = self._steps.get(row["step"])
            if number and self._column in row and len(self._trial.study.directions) == 1 and not self.is_stopped:
                try:
                    self._report(row, number)
                except (UsageError, RuntimeError, OSError) as error:  # of the journal, which must not fail the run
                    print(f"trial {self._trial.number} is not pruned at this point: {error}", file=sys.stderr)

    def _report(self, row: dict[str, Any], number: int) -> None:
        with readable(self._journal.path):
            self._trial.report(self._sign * row[str(self._column)], number)
            is_last = number == len(self._steps) - 1
            is_pruned = self._prunes and not is_last and self._trial.should_prune()
        if is_pruned:  # recorded at once: if this process dies now, no worker resumes the trial
            trial = self._journal.trials[self._trial.number]
            cost = {"samples": row["samples"], "flops": row["train_flops"], "seconds": row["seconds"]}
            self._journal.tell(trial, Ending(TrialState.PRUNED, cost=cost))
            self.is_stopped = True
            self._stop()


class SearchTasks(TaskList):
    """The tasks of a search: its unfinished trials, trials to be drawn, and the runs that confirm the winner.

    Args:
        others: the tasks that are no trials: the runs that confirm the winner, as far as they are known, and those of
            a study that is done beside the search.
        values: of the ``Journal``.

    Attributes:
        after: numbers of the latest attempts at the winner's runs before this launch, if they are not among the others.
    """

    def __init__(
        self,
        search: Search,
        others: Sequence[Task],
        runs_dir: Path,
        watch: Watch | None = None,
        **values: Any,
    ) -> None:
        super().__init__([], runs_dir, watch)
        self.journal = Journal(search, runs_dir, **values)
        self._others = {task.name: task for task in others}
        self.after: Mapping[str, int] = {}

    def open_tasks(self) -> OpenTasks:
        """As of other tasks; a free task without a name is a trial to be drawn."""
        trials, search = self.journal.settle(), self.journal.search
        num_new, others = self.journal.num_new(trials), dict(self._others)
        if not num_new and any(trial.state in OPEN and RUN not in trial.user_attrs for trial in trials):
            self.journal.drop_half_drawn()
            trials = self.journal.trials
        if not num_new and not any(trial.state in OPEN for trial in trials):
            found = winner_cells(self.journal)
            self.journal.show_winners([cell.name for cell in found])
            for cell in found:
                others.setdefault(cell.name, Task(cell.name, cell.config, self.after.get(cell.name, 0)))
        self._tasks = [*self.journal.tasks(trials), *others.values()]
        now = super().open_tasks()
        if self._give_up(trials, now):
            return self.open_tasks()
        now.free.extend(Task("", search.costliest, 0, trial=len(trials)) for _ in range(num_new))
        return now._replace(num_attempts=now.num_attempts + self._num_attempts(trials))

    def take(self) -> Iterator[Task]:
        """Yield trials that lost their worker, then new ones, then runs that confirm the winner."""
        free = self.open_tasks().free
        yield from (task for task in free if task.name and task.trial is not None)
        while (task := self.journal.ask()) is not None:
            yield task
        yield from (task for task in free if task.trial is None)

    def skip(self, task: Task, reason: str) -> None:
        """Record that a trial has failed, so that another one takes its place."""
        if task.trial is not None:
            self.journal.tell(self.journal.trials[task.trial], Ending(TrialState.FAIL, note=reason))

    @contextmanager
    def follow(self, task: Task, stop: Callable[[], None]) -> Iterator[Follower]:
        if task.trial is None:
            yield Follower()
            return
        yield TrialFollower(self.journal, task, stop)

    def _give_up(self, trials: Sequence[FrozenTrial], now: OpenTasks) -> bool:
        """Record that trials whose workers died repeatedly have failed, so that no worker resumes them.

        Returns:
            True if there is one.
        """
        open_runs = {task.name for task in (*now.free, *now.unsure, *now.held)}
        lost = [task for task in self._tasks if task.trial is not None and task.name not in open_runs]
        for task in lost:
            if not RunFolder(self._runs_dir, task.name).is_done:  # else the next call tells its result
                assert task.trial is not None
                self.journal.give_up(trials[task.trial])
        return bool(lost)

    def _num_attempts(self, trials: Sequence[FrozenTrial]) -> int:
        """Return the number of attempts at the trials that are over."""
        entries = index.read(self._runs_dir)
        runs = {trial.user_attrs.get(RUN) for trial in trials} - {task.name for task in self._tasks}
        return sum(entries[run].attempt for run in runs if run in entries)


@dataclass(frozen=True)
class SearchWork(Work):
    """The work of a search's launch.

    Attributes:
        tasks: those that were open when it was launched.
        failed_before: numbers of the trials that had failed by then.
        request: the baseline's runs that confirm the winner.
    """

    search: Search
    request: Request
    failed_before: frozenset[int] = frozenset()

    @property
    def priced(self) -> list[RunConfig]:
        """With the runs of the winner, which is not known until all trials are over."""
        is_open = any(task.trial is not None for task in self.tasks)
        return [*self.configs, *([self.search.costliest] * len(self.search.seeds) if is_open else [])]

    def task_list(self, runs_dir: Path, watch: Watch | None = None) -> SearchTasks:
        others = [task for task in self.tasks if task.trial is None]
        return SearchTasks(self.search, others, runs_dir, watch, failed_before=self.failed_before)

    def trials(self, runs_dir: Path) -> Trials:
        return trials_of(runs_dir, self.search.name)

    def finish(self, runs_dir: Path, console: Console) -> Sequence[Cell]:
        return finish(Journal(self.search, runs_dir), self.request, console)

    def is_complete(self, runs_dir: Path) -> bool:
        """True if the search has all its trials, and a winner."""
        return is_complete(Journal(self.search, runs_dir, is_read_only=True))
