"""The work of a search: trials that workers draw as they go, and the runs that confirm the winner."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.ablations.request import Request
from aimv2.config.program import Program
from aimv2.runs import index
from aimv2.runs.lease import Watch
from aimv2.sweeps.plan import Follower, OpenTasks, Task, TaskList, Trials, Work
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.outcome import finish, is_complete, winner_cells
from aimv2.sweeps.search.space import Search
from aimv2.sweeps.search.trials import in_state, trials_of


class TrialFollower(Follower):
    """Reports a trial's held-out curve while its run trains, and ends the run if the pruner says so."""

    def __init__(self, folder: SearchFolder, task: Task, stop: Callable[[], None]) -> None:
        self.is_stopped = False
        self._folder = folder
        self._task = task
        self._stop = stop

    def on_rows(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if not self.is_stopped:
                try:
                    self.is_stopped = self._folder.report(self._task, row)
                except Exception as error:  # of any kind: it must not fail the run
                    print(f"trial {self._task.trial} is not pruned at this point: {error}", file=sys.stderr)
                if self.is_stopped:
                    self._stop()


class SearchTasks(TaskList):
    """The tasks of a search: its unfinished trials, trials to be drawn, and the runs that confirm the winner.

    Args:
        others: the tasks that are no trials: the runs that confirm the winner, as far as they are known, and those of
            a study that is done beside the search.

    Attributes:
        after: numbers of the latest attempts at the winner's runs before this launch, if they are not among the others.
    """

    def __init__(self, folder: SearchFolder, others: Sequence[Task], watch: Watch | None = None) -> None:
        super().__init__([], folder.runs_dir, watch)
        self.folder = folder
        self._others = {task.name: task for task in others}
        self.after: Mapping[str, int] = {}

    def open_tasks(self) -> OpenTasks:
        """As of other tasks; a free task without a name is a trial to be drawn. Trials that are over are recorded."""
        folder, others = self.folder, dict(self._others)
        trials = folder.trials
        num_new, own = folder.num_new(trials), [folder.task(trial) for trial in in_state(trials, "running")]
        if not num_new and not own:
            found = winner_cells(folder, trials)
            folder.show_winners([cell.name for cell in found])
            for cell in found:
                others.setdefault(cell.name, Task(cell.name, cell.config, self.after.get(cell.name, 0)))
        self._tasks = [*own, *others.values()]
        now = super().open_tasks()
        if over := {task.name for task in own} - {task.name for task in (*now.free, *now.unsure, *now.held)}:
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

    @contextmanager
    def follow(self, task: Task, stop: Callable[[], None]) -> Iterator[Follower]:
        yield Follower() if task.trial is None else TrialFollower(self.folder, task, stop)


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
        tasks = self.task_list(runs_dir)
        tasks.open_tasks()  # records the trials that are over
        return finish(tasks.folder, self.request, console)

    def is_complete(self, runs_dir: Path) -> bool:
        """True if the search has all its trials, and a winner."""
        return is_complete(SearchFolder(self.search, runs_dir, is_read_only=True))
