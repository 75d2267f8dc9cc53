"""The runs of a launch, and which of them a worker can take."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import cloudpickle
from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.base.plugins import ready
from aimv2.config.program import Program
from aimv2.runs import index
from aimv2.runs.index import Entry
from aimv2.runs.lease import Sight, Watch, attempt_folder
from aimv2.runs.record import MAX_STALLED, RunFolder

FILE = "work.pickle"  # in the folder of a launch
MAX_WATCHED = 50  # holders whose heartbeats are read at once


@dataclass(frozen=True)
class Task:
    """A run to do."""

    name: str  # of the run; empty for a trial of a search that was not drawn yet
    config: Program  # of the run; of a trial that was not drawn yet, one that costs no less
    after: int  # number of its latest attempt before this launch, which repeats a failed run once
    trial: int | None = None  # number of its trial; None if it is no trial of a search
    trained: Path | None = None  # folder of the finished run whose training it reuses (aimv2.run.reuse); else None

    @property
    def priced(self) -> Program:
        """A run that costs the same: one that reuses a training costs its evaluation."""
        return self.config if self.trained is None else self.config.without_training()

    def is_over(self, entry: Entry, runs_dir: Path) -> bool:
        """True if the latest attempt, which has ended, was the last one of this launch.

        It is if it recorded a failure that the same code would meet again, or if MAX_STALLED attempts in a row made no
        progress, however they ended.
        """
        if entry.state == "failed" and entry.attempt > self.after and entry.cause != "node":
            return True
        may_be_stalled = entry.attempt - self.after >= MAX_STALLED
        return may_be_stalled and RunFolder(runs_dir, self.name).num_stalled(self.after) == MAX_STALLED


class Follower:
    """Follows a run while it is done; this one does nothing."""

    is_stopped = False  # True once the follower has decided that the run ends early

    def on_rows(self, rows: list[dict[str, Any]]) -> None:
        """Read the next rows of the run's metrics."""


class OpenTasks(NamedTuple):
    """The tasks that are not over."""

    free: list[Task]  # no process works on these
    unsure: list[Task]  # it is not known yet whether their holders are alive
    held: list[Task]  # their holders are alive
    num_attempts: int  # at all tasks so far

    @property
    def is_over(self) -> bool:
        return not (self.free or self.unsure or self.held)

    def without(self, names: Collection[str]) -> Self:
        """Return them without free tasks of these names."""
        return self._replace(free=[task for task in self.free if task.name not in names])


class TaskList:
    """The tasks of a launch, whose state is read again and again."""

    def __init__(self, tasks: Sequence[Task], runs_dir: Path, watch: Watch | None = None) -> None:
        self._tasks = tasks
        self._runs_dir = runs_dir
        self._is_over: dict[tuple[str, int], bool] = {}  # of attempts that have ended, by run and number
        self._sights: dict[tuple[str, int], Sight] = {}
        self._first = 0  # of the holders that are watched next
        self.watch = watch or Watch()

    def open_tasks(self) -> OpenTasks:
        """Return which tasks are open, from one listing of the index and the heartbeats of MAX_WATCHED holders.

        Once it is known whether these are alive, the next call watches the next ones. One that was not watched yet is
        taken to be alive.
        """
        entries = index.read(self._runs_dir)
        now = OpenTasks([], [], [], sum(entries[task.name].attempt for task in self._tasks if task.name in entries))
        running = []
        for task in self._tasks:
            entry = entries.get(task.name)
            if entry is None:
                now.free.append(task)
            elif entry.state == "done" or self._is_over.get((task.name, entry.attempt)):
                continue
            elif entry.state == "running":
                running.append((task, entry))
            else:
                self._add_if_open(task, entry, now)
        first = self._first % max(len(running), 1)
        for place, (task, entry) in enumerate(running[first:] + running[:first]):
            key = (task.name, entry.attempt)
            if place < MAX_WATCHED:
                self._sights[key] = self.watch.sees(attempt_folder(self._runs_dir / task.name, entry.attempt))
            sight = self._sights.get(key, "alive")
            if sight == "dead":
                self._add_if_open(task, entry, now)
            else:
                (now.held if sight == "alive" else now.unsure).append(task)
        self._first = first if now.unsure else first + MAX_WATCHED
        return now

    def take(self) -> Iterator[Task]:
        """Yield what a worker can try to acquire, one after the other, until it has acquired one."""
        yield from self.open_tasks().free

    def skip(self, task: Task, reason: str) -> None:
        """Record that no worker can do a task."""

    def follow(self, task: Task, stop: Callable[[], None]) -> AbstractContextManager[Follower]:
        """Return a context for the length of an attempt at a task."""
        return nullcontext(Follower())

    def _add_if_open(self, task: Task, entry: Entry, now: OpenTasks) -> None:
        key = (task.name, entry.attempt)
        if key not in self._is_over:
            self._is_over[key] = task.is_over(entry, self._runs_dir)
        if not self._is_over[key]:
            now.free.append(task)


@dataclass(frozen=True)
class Trials:
    """The trials of a search, as a display shows them."""

    described: str = ""  # their number by state, such as "7 finished, 3 pruned"; empty if there is no search
    # The run of each that was started and is neither pruned nor failed, with its number in the place of a seed; and the
    # runs that confirm the winner.
    cells: Sequence[Cell] = ()
    num_failed: int = 0
    runs: frozenset[str] = frozenset()  # names of the runs of all trials, and of those that confirm the winner


@dataclass(frozen=True)
class Work:
    """What the workers of a launch do."""

    tasks: Sequence[Task]  # in the order in which they start

    @property
    def configs(self) -> list[Program]:
        return [task.config for task in self.tasks]

    @property
    def priced(self) -> list[Program]:
        """The runs whose price is that of the work."""
        return [task.priced for task in self.tasks]

    @property
    def runs(self) -> list[str]:
        """The names of the runs, as far as they are known."""
        return [task.name for task in self.tasks if task.name]

    def of_worker(self, start: int) -> Self:
        """Return the work of a worker that begins with task number ``start``.

        After that it takes any other of one rank; if its own needs several ranks, it does this one only.
        """
        own, *others = [*self.tasks[start:], *self.tasks[:start]]
        return replace(self, tasks=[own, *(task for task in others if task.config.ranks == own.config.ranks == 1)])

    def task_list(self, runs_dir: Path, watch: Watch | None = None) -> TaskList:
        """Return the tasks, whose state can be read again and again."""
        return TaskList(self.tasks, runs_dir, watch)

    def trials(self, runs_dir: Path) -> Trials:
        """Return the trials of the search that this is, for displays."""
        return Trials()

    def finish(self, runs_dir: Path, console: Console) -> Sequence[Cell]:
        """Finish what no worker does, once all is over; return the cells that it has besides those of its plan."""
        return ()

    def is_complete(self, runs_dir: Path) -> bool:
        """True unless the work lacks something besides runs of its plan, after ``finish``."""
        return True


def write_work(launch_dir: Path, work: Work) -> None:
    (launch_dir / FILE).write_bytes(cloudpickle.dumps(work))


def read_work(launch_dir: Path) -> Work:
    ready()  # pickles of a search name modules of plug-ins
    work: Work = cloudpickle.loads((launch_dir / FILE).read_bytes())
    return work
