"""Active launches. Each has a folder, so that other processes and hosts see it.

It has a heartbeat, as that of a run, or the ids of jobs on a scheduler. To cancel a launch is to write a file into its
folder, which its workers read between runs and during training.
"""

import contextlib
import json
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, read_object, replacing, user, write_json
from aimv2.runs import index
from aimv2.runs.lease import Presence, is_held

FOLDER = "launches"
ABOUT = "launch.json"
CANCELLED = "cancelled.json"
SKIPPED = "skipped"
JOBS = "jobs.json"
WORKERS = "workers"
LOGS = "workers"  # in the runs folder
NAME = re.compile(r"\w+-[0-9a-f]{12}")  # of a launch's folder


class Queued(NamedTuple):
    """A job, or an element of an array, that is in a scheduler's queue."""

    array: str  # id of its array, or of the job
    state: str  # the scheduler's, such as PENDING
    reason: str  # the scheduler's reason for it, such as Resources


@dataclass(frozen=True)
class Jobs:
    """A launch's jobs on a scheduler, which all have the name of its folder."""

    arrays: dict[str, int]  # number of elements of each array, by its id
    finalizer: str  # id of the finalizer job; empty until it is submitted
    cluster: str  # its name; the queue of another cluster does not show these jobs
    executor: str = "slurm"  # that submitted them; older records have none, and are of the one that there was

    @property
    def described(self) -> str:
        """The arrays in words, such as ``8 workers as array 17``."""
        workers = (f"{n} worker{'s' * (n != 1)} as array {job}" for job, n in self.arrays.items())
        return " and ".join(workers) or "no workers of its own"


@dataclass(frozen=True)
class ActiveLaunch:
    """An active launch."""

    folder: Path
    study: str  # folder name of its study
    after: Mapping[str, int]  # number of each requested run's latest attempt before the launch; 0 if there was none
    owner: str  # name of the user
    host: str  # where it was launched, whose clock told ``started``
    started: str
    jobs: Jobs | None  # on a scheduler; None if its workers are processes of a machine

    @cached_property
    def runs(self) -> frozenset[str]:
        return frozenset(self.after)

    @property
    def id(self) -> str:
        """The part of its name that differs from that of the study's other launches."""
        return self.folder.name.rpartition("-")[2]


def new_launch(runs_dir: Path, study: str, runs: Iterable[str]) -> Path:
    folder = runs_dir / FOLDER / f"{study}-{uuid.uuid4().hex[:12]}"
    origin = {"owner": user(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M")}
    entry_of = index.read(runs_dir)
    after = {name: entry_of[name].attempt if name in entry_of else 0 for name in runs}
    with replacing(folder) as partial:
        partial.mkdir(parents=True)
        write_json(partial / ABOUT, {"study": study, **origin, "runs": after})
    return folder


def write_jobs(launch_dir: Path, jobs: Jobs) -> None:
    write_json(launch_dir / JOBS, asdict(jobs))


@contextmanager
def at_work(runs_dir: Path, study: str, runs: Iterable[str]) -> Iterator[Path]:
    """Register a launch for the length of the context; yields its folder."""
    launch_dir = new_launch(runs_dir, study, runs)
    try:
        with Presence(launch_dir):
            yield launch_dir
    finally:
        end(launch_dir)


def runs_dir_of(launch_dir: Path) -> Path:
    return launch_dir.parents[1]


def end(launch_dir: Path) -> None:
    """Delete a launch's folder. Other processes see all of it or nothing."""
    hidden = launch_dir.with_name(f".{launch_dir.name}")
    with contextlib.suppress(OSError):
        launch_dir.rename(hidden)
        shutil.rmtree(hidden)


def active_launches(runs_dir: Path, is_alive: Callable[[Path], bool] = is_held) -> list[ActiveLaunch]:
    """Return the active launches, as their folders show them: only a scheduler knows which jobs are queued."""
    folders = [path for path in (runs_dir / FOLDER).glob("*") if NAME.fullmatch(path.name) and (path / ABOUT).is_file()]
    return [launch for folder in sorted(folders) if (launch := _active(folder, is_alive)) is not None]


def cancel(active: ActiveLaunch, runs: Collection[str]) -> bool:
    """Request that a launch starts no further run, and releases these runs if it works on one of them."""
    try:
        write_json(active.folder / CANCELLED, sorted(runs))
    except FileNotFoundError:  # its folder was deleted since it was listed
        return False
    return True


def cancelled(launch_dir: Path) -> frozenset[str] | None:
    """Return the runs that a launch has to release; None if it was not cancelled."""
    try:
        return frozenset(json.loads((launch_dir / CANCELLED).read_text()))
    except FileNotFoundError:
        return None


def skip(launch_dir: Path, run: str, reason: str) -> None:
    """Record that a launch leaves out a run, whose folder cannot be written."""
    (launch_dir / SKIPPED).mkdir(exist_ok=True)
    write_json(launch_dir / SKIPPED / f"{run}.json", reason)


def skipped(launch_dir: Path) -> dict[str, str]:
    return {path.stem: read_json(path) for path in (launch_dir / SKIPPED).glob("*.json")}


def _active(folder: Path, is_alive: Callable[[Path], bool]) -> ActiveLaunch | None:
    """Return the launch of a folder; None if it has ended, or its folder was deleted at this moment."""
    try:
        jobs = Jobs(**read_json(folder / JOBS)) if (folder / JOBS).exists() else None
        if jobs is None and not any(map(is_alive, (folder, *folder.glob(f"{WORKERS}/*")))):
            return None
        about = read_object(folder / ABOUT)
        runs = about.pop("runs")
        after = runs if isinstance(runs, dict) else dict.fromkeys(runs, 0)  # older records have no numbers
        about.pop("plugins", None)  # of older records
        return ActiveLaunch(folder, **about, after=after, jobs=jobs)
    except (OSError, UsageError, KeyError, TypeError) as error:
        if not folder.exists():
            return None
        raise UsageError(f"{folder} is not the record of a launch: {error}; delete it") from error
