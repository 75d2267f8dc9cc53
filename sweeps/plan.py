"""The runs of a launch: which are missing, what its workers do, and which of them a worker can take."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import cloudpickle
from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.ablations.request import Request
from aimv2.base.plugins import ready
from aimv2.config.program import Program
from aimv2.run.programs import check_finished, prepare
from aimv2.runs import index
from aimv2.runs.attempt import LAYOUT_VERSION
from aimv2.runs.index import Entry
from aimv2.runs.lease import Sight, Watch, attempt_folder
from aimv2.runs.provenance import code_of_lost_checkpoint
from aimv2.runs.record import MAX_STALLED, RunFolder, entries

FILE = "work.pickle"  # in the folder of a launch
MAX_WATCHED = 50  # holders whose heartbeats are read at once
NONE: Mapping[str, Path] = {}


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
        """True if the latest attempt, which has ended, was the last one of this launch: it failed as the same code
        would again, or MAX_STALLED attempts in a row made no progress."""
        if entry.state == "failed" and entry.attempt > self.after and entry.cause != "node":
            return True
        may_be_stalled = entry.attempt - self.after >= MAX_STALLED
        return may_be_stalled and RunFolder(runs_dir, self.name).num_stalled(self.after) == MAX_STALLED


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

        Once it is known whether these are alive, the next call watches the next ones; others count as alive.
        """
        found = index.read(self._runs_dir)
        now = OpenTasks([], [], [], sum(found[task.name].attempt for task in self._tasks if task.name in found))
        running = []
        for task in self._tasks:
            entry = found.get(task.name)
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
    # Runs of trials that are neither pruned nor failed, with their numbers as seeds, and those that confirm the winner.
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
        return [task.name for task in self.tasks if task.name]

    def of_worker(self, start: int) -> Self:
        """Return the work of a worker that begins with task number ``start``, and takes any other of one rank after it,
        unless its own needs several."""
        own, *others = [*self.tasks[start:], *self.tasks[:start]]
        return replace(self, tasks=[own, *(task for task in others if task.config.ranks == own.config.ranks == 1)])

    def task_list(self, runs_dir: Path, watch: Watch | None = None) -> TaskList:
        return TaskList(self.tasks, runs_dir, watch)

    def trials(self, runs_dir: Path) -> Trials:
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


@dataclass(frozen=True)
class Plan:
    """Cells with their runs; cells with equal configs share a run."""

    title: str  # the name by which a launch of them is known: that of its study's report
    cells: list[Cell]
    runs_dir: Path
    requests: tuple[Request, ...] = ()  # of the studies on which the launch ends with a report; none for single runs

    @cached_property
    def runs(self) -> dict[str, RunFolder]:
        """Run folders by run name, longest runs first, so that no worker starts a long run last."""
        order = sorted(self.cells, key=lambda cell: -cell.config.num_samples)
        return {cell.name: RunFolder(self.runs_dir, cell.name) for cell in order}

    @cached_property
    def cell_of(self) -> dict[str, Cell]:
        """A cell of each run, by run name."""
        return {cell.name: cell for cell in self.cells}

    def remaining(self, *, repair: bool = False) -> list[str]:
        """Return the names of the runs that are not done."""
        found = entries(self.runs_dir, repair=repair)
        done = {
            name for name, run in self.runs.items() if name in found and found[name].state == "done" and run.is_done
        }
        for name in done:
            if found[name].layout != LAYOUT_VERSION and not self.runs[name].problem():
                self.runs[name].result()  # says what is wrong with it
        return [name for name in self.runs if name not in done]

    def broken_results(self) -> list[str]:
        """Return which results cannot be read, a sentence each. These runs are not repeated, and count as failed."""
        return [problem for run in self.runs.values() if run.is_done and (problem := run.problem())]

    def check_finished(self, remaining: Collection[str]) -> None:
        """Raise a UsageError if data of a run that is not among the remaining ones has been edited."""
        check_finished(cell.config for name, cell in self.cell_of.items() if name not in remaining)

    def work(self, names: Iterable[str], trained: Mapping[str, Path] = NONE) -> Work:
        """Return these runs as the work of a launch that begins now."""
        tasks = ((name, self.cell_of[name].config, self.runs[name].num_attempts) for name in names)
        return Work([Task(*task, trained=trained.get(task[0])) for task in tasks])

    def prepare_data(self) -> None:
        """Prepare what the runs share before workers start, so that no run waits for it or fails there."""
        prepare(cell.config for cell in self.cells)


def code_note(
    entries: Mapping[str, Entry], names: Iterable[str], new: Collection[str] = (), *, is_allowed: bool = False
) -> str:
    """Say which code the done runs among these are of, if one report would mix code; empty if it would not."""
    found = [one for name in names if (one := entries.get(name)) is not None and one.state == "done"]
    codes = Counter(one.code or "not recorded" for one in found)
    if len({*codes, *new}) < 2:
        return ""
    done = [f"done runs are of code {', '.join(f'{code} ({count})' for code, count in codes.items())}"] * bool(codes)
    each = ", ".join([*done, *(f"new ones of {code}" for code in new)])
    instead = "; code=DIGEST does the new runs with older code" if new else ""
    verdict = f"The report draws no verdict from the mixture, unless sweep.allow_mixed_code=true{instead}"
    if is_allowed:
        verdict = "The report draws verdicts from the mixture, since sweep.allow_mixed_code=true"
    return f"{each}. {verdict}"


def restart_note(runs: Iterable[RunFolder]) -> str:
    """Say which code's checkpoints these unfinished runs do not resume from, since it is other code; empty if none."""
    codes = Counter(code for run in runs if (code := code_of_lost_checkpoint(run.path)))
    each = ", ".join(f"{code} ({count})" for code, count in codes.items())
    text = f"interrupted runs start again at step 0, since their checkpoints are of other code: {each}"
    return f"{text}. To resume instead, launch with code=DIGEST" if codes else ""
