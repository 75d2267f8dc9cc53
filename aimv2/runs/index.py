"""The index of a runs folder: the state of every run in the name of an empty file, so that one listing tells them all.

It is a cache, which is completed from the runs' own folders (``aimv2.runs.record.entries``).
"""

import contextlib
import os
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

from aimv2.base.errors import Cause

FOLDER = "index"
IndexState = Literal["running", "idle", "failed", "done"]
STATES: dict[str, IndexState] = {state: state for state in get_args(IndexState)}
CAUSES: dict[str, Cause] = {cause.replace(" ", "-"): cause for cause in get_args(Cause)}  # by their part of a name


class Entry(NamedTuple):
    """The state of a run."""

    state: IndexState  # running: the latest attempt was not released; idle: it was, without a result or failure
    attempt: int  # number of the latest attempt; of done runs, of the one that made the result
    cause: Cause | None = None  # of a failure
    layout: int = 0  # version of the layout of a result; 0 if it is not known
    code: str = ""  # digest of the code that made the result; empty if it is not known

    def name(self, run: str) -> str:
        """Return the name of the file, such as ``v2-15b6f82b08fe.done.0001.2.5f0c1b7de1a2``."""
        more = {"failed": [(self.cause or "").replace(" ", "-")], "done": [str(self.layout), self.code]}
        return ".".join([run, self.state, f"{self.attempt:04d}", *more.get(self.state, [])])

    @classmethod
    def parse(cls, name: str) -> tuple[str, Self] | None:
        """Return the run and the entry of a file's name; None if it is no entry."""
        run, state, attempt, detail, code = [*name.split("."), "", "", "", ""][:5]  # older ones may have more parts
        if state not in STATES or not attempt.isdecimal():
            return None
        layout = int(detail) if detail.isdecimal() else 0  # the detail is a cause or a layout
        return run, cls(STATES[state], int(attempt), CAUSES.get(detail), layout, code)

    @property
    def order(self) -> tuple[bool, int, bool]:
        """The later of two entries of a run is the larger one."""
        return self.state == "done", self.attempt, self.state != "running"


def read(runs_dir: Path) -> dict[str, Entry]:
    """Return the latest entry of each run that has one, from one listing."""
    latest: dict[str, Entry] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(runs_dir / FOLDER):
            if parsed := Entry.parse(name):
                run, entry = parsed
                latest[run] = max(latest.get(run, entry), entry, key=lambda entry: entry.order)
    return latest


def write(runs_dir: Path, run: str, entry: Entry, *, has_no_result: bool = False) -> None:
    """Add an entry and remove all but the run's latest one; a reader sees one of them at any time. ``has_no_result``
    removes entries of a result too: the run was acquired, so its result was deleted."""
    folder = add(runs_dir, run, entry)
    names = [name for name in os.listdir(folder) if name.startswith(f"{run}.")]
    listed = {name: parsed[1] for name in names if (parsed := Entry.parse(name))}
    valid = [other for other in listed.values() if not (has_no_result and other.state == "done")]
    latest = max(valid, default=entry, key=lambda entry: entry.order)
    for name, other in listed.items():
        if other != latest:
            (folder / name).unlink(missing_ok=True)


def add(runs_dir: Path, run: str, entry: Entry) -> Path:
    """Add an entry of a run that has none, and return the index; ``write`` lists all entries besides."""
    folder = runs_dir / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / entry.name(run)).touch()
    return folder


def remove(runs_dir: Path, run: str, entry: Entry) -> None:
    """Remove an entry, if it is still there."""
    (runs_dir / FOLDER / entry.name(run)).unlink(missing_ok=True)
