"""The runs of a launch, and which of them a worker can take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aimv2.config.run_config import RunConfig
from aimv2.runs import index
from aimv2.runs.index import Entry
from aimv2.runs.lease import Watch
from aimv2.runs.record import MAX_STALLED, RunFolder

MAX_WATCHED = 50  # holders that are watched at once; others are watched by other workers


@dataclass(frozen=True)
class Task:
    """A run to do.

    Attributes:
        after: number of its latest attempt before this launch. A launch takes up a run that has failed once more.
    """

    name: str
    config: RunConfig
    after: int

    def is_over(self, entry: Entry, runs_dir: Path) -> bool:
        """True if the latest attempt, which has ended, was the last one of this launch.

        It is if it recorded a failure that the same code would meet again, or if MAX_STALLED attempts in a row made no
        progress, however they ended.
        """
        if entry.state == "failed" and entry.attempt > self.after and entry.cause != "node":
            return True
        may_be_stalled = entry.attempt - self.after >= MAX_STALLED
        return may_be_stalled and RunFolder(runs_dir, self.name).num_stalled(self.after) == MAX_STALLED


class Look(NamedTuple):
    """The tasks that are not over.

    Attributes:
        free: nobody works on these.
        unsure: nobody knows yet whether their holders are alive.
        held: others work on these.
        num_attempts: number of attempts at all tasks so far.
    """

    free: list[Task]
    unsure: list[Task]
    held: list[Task]
    num_attempts: int

    @property
    def is_over(self) -> bool:
        return not (self.free or self.unsure or self.held)


def look(tasks: Sequence[Task], runs_dir: Path, watch: Watch) -> Look:
    """Return which tasks are open, from one listing of the index and the heartbeats of at most MAX_WATCHED holders."""
    entries, num_watched = index.read(runs_dir), 0
    found = Look([], [], [], sum(entries[task.name].attempt for task in tasks if task.name in entries))
    for task in tasks:
        entry = entries.get(task.name)
        if entry is not None and entry.state == "done":
            continue
        if entry is not None and entry.state == "running":
            num_watched += 1
            attempt = runs_dir / task.name / "attempts" / f"{entry.attempt:04d}"
            sight = "alive" if num_watched > MAX_WATCHED else watch.sees(attempt)
            if sight != "dead":
                (found.held if sight == "alive" else found.unsure).append(task)
                continue
        if entry is None or not task.is_over(entry, runs_dir):
            found.free.append(task)
    return found
