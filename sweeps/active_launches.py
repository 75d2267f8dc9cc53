"""Launches at work: a folder each, so that others know of them, from any host. One that watches its workers has a
heartbeat there like a run's; one that left its workers to SLURM has the names of their jobs.

Cancelling is a file in that folder; the launch's workers look for it between runs and while they train.
"""

import contextlib
import dataclasses
import json
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aimv2.errors import UsageError
from aimv2.runs.files import read_json, write_json
from aimv2.runs.lease import Presence, is_held

FOLDER = "launches"
ABOUT = "launch.json"
CANCELLED = "cancelled.json"
JOBS = "jobs.json"
WORKERS = "workers"
SEATLESS = "seatless"


@dataclass(frozen=True)
class Jobs:
    """A launch's jobs on SLURM; all of them have the name of its folder.

    Attributes:
        arrays: how many workers each array has, by its id.
        settling: id of the job behind them, which sees to what is left and writes the report; empty before that is
            there.
        cluster: whose jobs they are; another's queue knows nothing of them.
    """

    arrays: dict[str, int]
    settling: str
    cluster: str

    @property
    def described(self) -> str:
        """Such as ``8 workers as array 17``."""
        workers = (f"{n} worker{'s' * (n != 1)} as array {job}" for job, n in self.arrays.items())
        return " and ".join(workers) or "no workers of its own"


@dataclass(frozen=True)
class ActiveLaunch:
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
    unnamed = folder.with_name(f".{folder.name}")
    unnamed.mkdir(parents=True)
    write_json(unnamed / ABOUT, {"study": study, "runs": dict(tries)})
    unnamed.rename(folder)
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
        end(folder)


@contextmanager
def worker_of(folder: Path | None) -> Iterator[Path | None]:
    """Make a worker of a launch known for the length of the context; gives the worker's folder.

    So a launch whose launcher was killed is at work as long as its workers are.
    """
    if folder is None:
        yield None
        return
    own = folder / WORKERS / uuid.uuid4().hex[:12]
    own.mkdir(parents=True)
    with Presence(own):
        yield own


def end(folder: Path) -> None:
    """Delete a launch's folder; for others it is gone at once, or not yet."""
    gone = folder.with_name(f".{folder.name}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone)


def active_launches(runs_dir: Path) -> list[ActiveLaunch]:
    """Those at work now, as far as their folders say; whether jobs are still in SLURM's queue, SLURM knows.

    Raises:
        UsageError: a launch's file is broken.
    """
    return [found for folder in _folders(runs_dir) if (found := _active(folder)) is not None]


def ended(runs_dir: Path) -> list[Path]:
    """Folders of launches that died without a word."""
    return [folder for folder in _folders(runs_dir) if not (folder / JOBS).exists() and not _is_at_work(folder)]


def num_seatless(active: ActiveLaunch) -> int:
    """Workers of a launch that wait for a free core or GPU."""
    return sum((worker / SEATLESS).exists() and is_held(worker) for worker in _workers(active.folder))


def cancel(active: ActiveLaunch, runs: Collection[str]) -> None:
    """Ask a launch to start no further run, and to hand these back if it is at one of them."""
    write_json(active.folder / CANCELLED, sorted(runs))


def cancelled(folder: Path) -> frozenset[str] | None:
    """The runs that a launch must hand back; None if it was not cancelled."""
    try:
        return frozenset(json.loads((folder / CANCELLED).read_text()))
    except FileNotFoundError:
        return None


def _folders(runs_dir: Path) -> list[Path]:
    return sorted(path for path in (runs_dir / FOLDER).glob("*") if not path.name.startswith("."))


def _is_at_work(folder: Path) -> bool:
    return is_held(folder) or any(map(is_held, _workers(folder)))


def _workers(folder: Path) -> list[Path]:
    try:
        return list(folder.glob(f"{WORKERS}/*"))
    except FileNotFoundError:  # deleted at this moment
        return []


def _active(folder: Path) -> ActiveLaunch | None:
    """A launch by its folder; None if it is not at work, or its folder was deleted at this moment."""
    try:
        jobs = Jobs(**read_json(folder / JOBS)) if (folder / JOBS).exists() else None
        if jobs is None and not _is_at_work(folder):
            return None
        about = read_json(folder / ABOUT)
        return ActiveLaunch(folder, about["study"], frozenset(about["runs"]), jobs)
    except (UsageError, KeyError, TypeError) as error:
        if not folder.exists():
            return None
        raise UsageError(f"{folder} is no record of a launch: {error}; delete it") from error
