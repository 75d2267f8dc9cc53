"""Launches at work: a folder each, so that others know of them, from any host. One that watches its workers has a
heartbeat there like a run's; one that left its workers to SLURM has the names of their jobs.

Cancelling is a file in that folder; the launch's workers look for it between runs and while they train.
"""

import dataclasses
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aimv2.lease import Presence, is_held
from aimv2.record import read_json, write_json

FOLDER = "launches"
ABOUT = "launch.json"
CANCELLED = "cancelled.json"
JOBS = "jobs.json"


@dataclass(frozen=True)
class Jobs:
    """A launch's jobs on SLURM; all of them have the name of its folder.

    Attributes:
        array: id of the array of workers.
        elements: how many they are.
        settling: id of the job behind it, which sees to what is left and writes the report; empty if it was refused.
    """

    array: str
    elements: int
    settling: str


@dataclass(frozen=True)
class Launching:
    """A launch that is at work.

    Attributes:
        folder: its own.
        study: the folder name of its study.
        runs: names of the runs that it wants done.
        jobs: on SLURM; None if its workers are processes of its own.
    """

    folder: Path
    study: str
    runs: frozenset[str]
    jobs: Jobs | None = None


def new_launch(runs_dir: Path, study: str, tries: Mapping[str, int]) -> Path:
    """Make a launch's folder.

    Args:
        tries: by the names of the runs that it wants done, how often each had been tried before.
    """
    folder = runs_dir / FOLDER / f"{study}-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    write_json(folder / ABOUT, {"study": study, "runs": dict(tries), "started": time.time()})
    return folder


def tries_at_launch(folder: Path) -> dict[str, int]:
    """The runs of a launch, and how often each had been tried before."""
    return {name: int(tries) for name, tries in read_json(folder / ABOUT)["runs"].items()}


def write_jobs(folder: Path, jobs: Jobs) -> None:
    """Make a launch's jobs known."""
    write_json(folder / JOBS, dataclasses.asdict(jobs))


@contextmanager
def at_work(runs_dir: Path, study: str, tries: Mapping[str, int]) -> Iterator[Path]:
    """Make a launch known for the length of the context; gives its folder."""
    folder = new_launch(runs_dir, study, tries)
    try:
        with Presence(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def launches(runs_dir: Path) -> list[Launching]:
    """Those at work now, as far as their folders say; whether jobs are still in SLURM's queue, SLURM knows."""
    found = []
    for folder in sorted((runs_dir / FOLDER).glob("*")):
        jobs = Jobs(**read_json(folder / JOBS)) if (folder / JOBS).exists() else None
        if (folder / ABOUT).exists() and (jobs is not None or is_held(folder)):
            about = read_json(folder / ABOUT)
            found.append(Launching(folder, about["study"], frozenset(about["runs"]), jobs))
    return found


def ended(runs_dir: Path) -> list[Path]:
    """Folders of launches that died without a word."""
    folders = sorted((runs_dir / FOLDER).glob("*"))
    return [folder for folder in folders if not (folder / JOBS).exists() and not is_held(folder)]


def cancel(launching: Launching, runs: Collection[str]) -> None:
    """Ask a launch to start no further run, and to hand these back if it is at one of them."""
    write_json(launching.folder / CANCELLED, sorted(runs))


def cancelled(folder: Path) -> frozenset[str] | None:
    """The runs that a launch must hand back; None if it was not cancelled."""
    path = folder / CANCELLED
    return frozenset(read_json(path)) if path.exists() else None
