"""Find and delete checkpoints, code snapshots, logs and records of launches that are no longer needed.

The runs folder may be a home or a project folder, so only what has the name and the marker of our own files is touched.
Links are neither followed nor deleted.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aimv2.errors import UsageError
from aimv2.runs.attempt import CHECKPOINT, CHECKPOINT_PARTIAL
from aimv2.runs.files import read_json
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.provenance import FROZEN, recorded_digests
from aimv2.runs.record import RUN_NAME, RunFolder
from sweeps.active_launches import ABOUT, JOBS, LOGS, LOGS_MARKER, active_launches, processes_of
from sweeps.active_launches import FOLDER as LAUNCHES
from sweeps.active_launches import NAME as LAUNCH_NAME
from sweeps.freeze import FOLDER as CODE
from sweeps.freeze import PARTIAL

LOG_DAYS = 7
CODE_DAYS = 1  # since a launch used it: a launch that is still rendering its data is not active yet
WATCH_POLL_SECONDS = 1.0
SNAPSHOT_NAME = re.compile(r"[0-9a-f]{12}")
PARTIAL_NAME = re.compile(rf"{re.escape(PARTIAL)}[0-9a-f]{{32}}")
LOGS_NAME = re.compile(r"(\w+-)?[0-9a-f]{12}")
ATTEMPT_NAME = re.compile(r"\d{4,}")


class Unneeded(NamedTuple):
    """A file or a folder to delete; ``size`` in bytes."""

    kind: str
    path: Path
    size: int


@dataclass
class Pruner:
    """What can be deleted from a runs folder. Results always stay.

    - checkpoints of finished runs, and of other runs those that their next attempt would not use
    - unfinished files of killed processes, and records of launches whose processes have ended
    - code snapshots that no checkpoint was made with and no launch used for CODE_DAYS
    - workers' logs older than LOG_DAYS

    While a launch is active, the checkpoints of its runs and all code snapshots and logs stay. If this code can use no
    checkpoint of a run, all of them stay: the code that made them may come back.

    Attributes:
        abandoned: folders of launches that have ended, though they show jobs on SLURM.
        now: clock of the watch, in seconds.
    """

    runs_dir: Path
    abandoned: frozenset[Path] = frozenset()
    now: Callable[[], float] = time.monotonic
    _resumed: dict[Path, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._watch = Watch(now=self.now)

    def wait(self, note: Callable[[str], None], pause: Callable[[float], None] = time.sleep) -> None:
        """Watch heartbeats until each is known to be that of a living or a dead process."""
        launches = [launch for launch in self._launches() if not (launch / JOBS).exists()]
        heartbeats = [process for launch in launches for process in processes_of(launch)]
        heartbeats += [attempts[0] for _, attempts in self._runs() if attempts and any(map(_checkpoints, attempts))]
        is_noted = False
        while unsure := [folder for folder in heartbeats if self._watch.sees(folder) == "unsure"]:
            if not is_noted:
                note(f"watching {len(unsure)} heartbeat{'s' * (len(unsure) > 1)} for {GRACE_SECONDS:.0f} s")
                is_noted = True
            pause(WATCH_POLL_SECONDS)

    def unneeded(self) -> list[Unneeded]:
        """Return what can be deleted. A process that was not watched long enough counts as alive."""
        launches = [one for one in active_launches(self.runs_dir, self._is_alive) if one.folder not in self.abandoned]
        requested = frozenset().union(*(launch.runs for launch in launches))
        found = {"checkpoints": list[Path](), "launches": list[Path](), "code snapshots": list[Path]()}
        for run, attempts in self._runs():
            if run.name not in requested and not any(map(self._is_alive, attempts[:1])):
                found["checkpoints"] += self._unused(run, attempts)
        active = {launch.folder for launch in launches}
        found["launches"] = [folder for folder in self._launches() if folder not in active and _was_registered(folder)]
        if not launches:
            found["code snapshots"] = self._code()
            found["logs"] = [path for path in self._logs() if _is_older([path, *path.rglob("*")], LOG_DAYS)]
        return [Unneeded(kind, path, _size(path)) for kind, paths in found.items() for path in paths]

    def delete(self, shown: Iterable[Unneeded]) -> list[str]:
        """Delete these files and folders, unless they have come into use meanwhile. Return what prevented it."""
        still, problems = {one.path for one in self.unneeded()}, []
        for path in (one.path for one in shown if one.path in still):
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:  # another user's
                problems.append(f"{path}: {error.strerror}")
        return problems

    def foreign(self) -> dict[str, int]:
        """Return the number of folders and links that are not known to be ours, by the folder they are in."""
        ours = {CODE: [*self._snapshots(), *self._partial()], LOGS: self._logs(), LAUNCHES: self._launches()}
        folders = {name: {path for path in _entries(self.runs_dir / name) if path.is_dir()} for name in ours}
        return {name: len(left) for name, found in folders.items() if (left := found - set(ours[name]))}

    def _is_alive(self, folder: Path) -> bool:
        return self._watch.sees(folder) != "dead"

    def _launches(self) -> list[Path]:
        return _folders(self.runs_dir / LAUNCHES, LAUNCH_NAME, ABOUT)

    def _logs(self) -> list[Path]:
        return _folders(self.runs_dir / LOGS, LOGS_NAME, LOGS_MARKER)

    def _snapshots(self) -> list[Path]:
        return [path for path in _folders(self.runs_dir / CODE, SNAPSHOT_NAME, FROZEN) if _is_snapshot(path)]

    def _partial(self) -> list[Path]:
        return _folders(self.runs_dir / CODE, PARTIAL_NAME)

    def _code(self) -> list[Path]:
        """Return snapshots that no checkpoint was made with, and unfinished ones."""
        from aimv2.training.checkpoint import code_of

        old = [path for path in self._snapshots() if _is_older([path], CODE_DAYS)]
        needed = {code_of(path.parent) for path in self.runs_dir.glob(f"v*-*/attempts/*/{CHECKPOINT}") if old}
        unused = [path for path in old if not recorded_digests(path / "aimv2") & needed]
        return unused + [path for path in self._partial() if _is_older([path], CODE_DAYS)]

    def _runs(self) -> list[tuple[RunFolder, list[Path]]]:
        """Return all runs, each with its attempts, newest first."""
        runs = _folders(self.runs_dir, RUN_NAME, "config.json")
        attempts = [_folders(run / "attempts", ATTEMPT_NAME) for run in runs]
        return [
            (RunFolder(self.runs_dir, run.name), sorted(found, key=lambda path: -int(path.name)))
            for run, found in zip(runs, attempts, strict=True)
        ]

    def _unused(self, run: RunFolder, attempts: list[Path]) -> list[Path]:
        from aimv2.training import checkpoint

        files = [path for attempt in attempts for path in _checkpoints(attempt)]
        complete = [path.parent for path in files if path.name == CHECKPOINT]
        kept = [] if run.is_done else complete
        if len(kept) > 1:
            if run.path not in self._resumed:  # newest first, in the order of the next attempt
                found = checkpoint.find(complete)
                self._resumed[run.path] = None if found is None else found.attempt
            number = self._resumed[run.path]
            kept = [attempt for attempt in complete if number in (None, int(attempt.name))]
        return [path for path in files if path.name == CHECKPOINT_PARTIAL or path.parent not in kept]


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it is a link or does not exist."""
    return [] if folder.is_symlink() or not folder.is_dir() else sorted(folder.iterdir())


def _folders(folder: Path, name: re.Pattern[str], marker: str = "") -> list[Path]:
    """Return the folders in it that have such a name and contain the marker file. No link counts."""
    return [
        path
        for path in _entries(folder)
        if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if not marker or ((path / marker).is_file() and not (path / marker).is_symlink())
    ]


def _checkpoints(attempt: Path) -> list[Path]:
    """Return the attempt's checkpoint and the unfinished one that a killed process left."""
    found = [path for name in (CHECKPOINT, CHECKPOINT_PARTIAL) if not (path := attempt / name).is_symlink()]
    return [path for path in found if (path.is_file() if path.name == CHECKPOINT else path.is_dir())]


def _is_snapshot(folder: Path) -> bool:
    try:
        return "commit" in read_json(folder / FROZEN) and (folder / "aimv2" / "__init__.py").is_file()
    except (UsageError, TypeError):
        return False


def _was_registered(launch_dir: Path) -> bool:
    """False for a launch that has no process or job yet: it may be submitting its jobs."""
    return (launch_dir / "heartbeat").exists() or (launch_dir / JOBS).exists() or _is_older([launch_dir], CODE_DAYS)


def _is_older(paths: Iterable[Path], days: float) -> bool:
    oldest = time.time() - 86400 * days
    return all(path.lstat().st_mtime < oldest for path in paths)


def _size(path: Path) -> int:
    return sum(one.lstat().st_size for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())
