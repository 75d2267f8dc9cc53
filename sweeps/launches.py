"""Launches at work: a folder each, with a heartbeat like a run's, so that others know of them, from any host.

Cancelling is a file in that folder; the launch's workers look for it between runs and while they train.
"""

import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aimv2.lease import Presence, is_held
from aimv2.record import read_json, write_json

FOLDER = "launches"
CANCELLED = "cancelled.json"


@dataclass(frozen=True)
class Launching:
    """A launch that is at work.

    Attributes:
        folder: its own.
        study: the folder name of its study.
        runs: names of the runs that it wants done.
    """

    folder: Path
    study: str
    runs: frozenset[str]


@contextmanager
def at_work(runs_dir: Path, study: str, runs: Collection[str]) -> Iterator[Path]:
    """Make a launch known for the length of the context; gives its folder."""
    folder = runs_dir / FOLDER / f"{study}-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    try:
        with Presence(folder):
            write_json(folder / "launch.json", {"study": study, "runs": sorted(runs), "started": time.time()})
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def launches(runs_dir: Path) -> list[Launching]:
    """Those at work now."""
    found = []
    for folder in sorted((runs_dir / FOLDER).glob("*")):
        if (folder / "launch.json").exists() and is_held(folder):
            about = read_json(folder / "launch.json")
            found.append(Launching(folder, about["study"], frozenset(about["runs"])))
    return found


def ended(runs_dir: Path) -> list[Path]:
    """Folders of launches that died without a word."""
    return [folder for folder in sorted((runs_dir / FOLDER).glob("*")) if not is_held(folder)]


def cancel(launching: Launching, runs: Collection[str]) -> None:
    """Ask a launch to start no further run, and to hand these back if it is at one of them."""
    write_json(launching.folder / CANCELLED, sorted(runs))


def cancelled(folder: Path) -> frozenset[str] | None:
    """The runs that a launch must hand back; None if it was not cancelled."""
    path = folder / CANCELLED
    return frozenset(read_json(path)) if path.exists() else None
