"""Find and delete checkpoints, code snapshots, logs and records of launches that are no longer needed.

The runs folder may be a home or a project folder, so only what has the name and the marker of our own files is touched.
Links are neither followed nor deleted.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from rich.console import Console

from aimv2.base.plugins import FROZEN
from aimv2.runs import index
from aimv2.runs.attempt import CHECKPOINT, CHECKPOINT_PARTIAL, unfinished
from aimv2.runs.index import Entry
from aimv2.runs.lease import GRACE_SECONDS, Watch, attempt_folder, latest_attempt
from aimv2.runs.provenance import JOINT, code_digest, recorded_code
from aimv2.runs.record import RunFolder, entries
from aimv2.sweeps import active_launches, freeze
from aimv2.sweeps.executors.base import abandoned

LOG_DAYS = 7
CODE_DAYS = 1  # since a launch used it: a launch that is still rendering its data is not active yet
LAUNCH_DAYS = 1  # a launch that is submitting its jobs has no process yet
POLL_SECONDS = 1.0
LOGS_NAME = re.compile(r"(\w+-)?[0-9a-f]{12}")


def prune(
    runs_dir: Path, console: Console, is_confirmed: Callable[[], bool] = lambda: True, *, is_dry_run: bool = False
) -> bool:
    """List what is not needed, and delete it if that is confirmed. Return False if not all of it can be deleted."""
    runs_dir, problems = runs_dir.resolve(), 0
    find = partial(unneeded, runs_dir, abandoned(runs_dir), watch=Watch(), note=console.print)
    paths = find()
    for path in paths:
        size = sum(file.lstat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        console.print(f"{size / 1e6:,.1f} MB: {path.relative_to(runs_dir)}", soft_wrap=True, markup=False)
    console.print(f"files and folders to delete: {len(paths)}")
    if is_dry_run or (paths and not is_confirmed()):
        return True
    for path in set(paths).intersection(find() if paths else ()):  # others have come into use meanwhile
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:  # another user's
            problems += 1
            console.print(f"not deleted: {path}: {error.strerror}", style="red", soft_wrap=True, markup=False)
    _mark_clean(runs_dir)
    if paths:
        console.print("all else is deleted" if problems else "deleted; results are untouched")
    return not problems


def unneeded(
    runs_dir: Path,
    ended: Collection[Path] = (),
    *,
    watch: Watch | None = None,
    note: Callable[[str], None] = print,
    pause: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Return what can be deleted from a runs folder: checkpoints and parts of evaluations of finished runs, unfinished
    checkpoints of killed processes, records of launches that ended, code snapshots that no checkpoint and no result was
    made with, and workers' logs. While a launch is active, the checkpoints of its runs and all snapshots and logs stay.
    """
    watch, unsure = watch or Watch(), set[Path]()

    def is_alive(folder: Path) -> bool:
        sight = watch.sees(folder)
        if sight == "unsure":
            unsure.add(folder)
        # While a launcher may be alive, its workers need no watch.
        return sight == "alive" or (sight == "unsure" and folder.parent == runs_dir / active_launches.FOLDER)

    while True:
        paths = list(_found(runs_dir, ended, is_alive))
        if not unsure:
            return paths
        note(f"watching {len(unsure)} heartbeats for up to {GRACE_SECONDS:.0f} s")
        while any(watch.sees(folder) == "unsure" for folder in unsure):
            pause(POLL_SECONDS)
        unsure.clear()


def _found(runs_dir: Path, ended: Collection[Path], is_alive: Callable[[Path], bool]) -> Iterator[Path]:
    launches = [launch for launch in active_launches.active_launches(runs_dir, is_alive) if launch.folder not in ended]
    working = {launch.folder for launch in launches}
    requested = frozenset[str]().union(*(launch.runs for launch in launches))
    runs, checkpoints = entries(runs_dir), list[Path]()
    for name in sorted(runs.keys() - requested):
        run, left = runs_dir / name, [path for path in _left(runs_dir, name, runs[name]) if _is_real(path)]
        if left and _is_real(run / "config.json"):
            checkpoints += left
            is_done = RunFolder(runs_dir, name).is_done
            unneeded = [path for path in left if is_done or path.name == CHECKPOINT_PARTIAL]
            if unneeded and not is_alive(latest_attempt(run) or run):
                yield from unneeded
    launched = (path for path in (runs_dir / active_launches.FOLDER).glob("*") if path not in working)
    yield from _old(launched, active_launches.NAME, LAUNCH_DAYS, active_launches.ABOUT)
    if working:
        return
    snapshots = _old((runs_dir / freeze.FOLDER).glob("*"), freeze.NAME, CODE_DAYS, FROZEN, "aimv2/__init__.py")
    codes = {code for entry in index.read(runs_dir).values() for code in entry.code.split(JOINT)}
    needed = {recorded_code(path.parent) for path in checkpoints if path.name.startswith(CHECKPOINT)} | codes
    yield from (path for path in snapshots if code_digest(path / "aimv2") not in needed)
    yield from _old((runs_dir / active_launches.LOGS).glob("*"), LOGS_NAME, LOG_DAYS, active_launches.LOGS_MARKER)


def _left(runs_dir: Path, name: str, entry: Entry) -> Iterator[Path]:
    """Yield what is left in a run's attempts and only unfinished runs need; the index knows of most that nothing is."""
    if not entry.is_clean:
        for number in range(1, entry.attempt + 1):
            yield from unfinished(attempt_folder(runs_dir / name, number))


def _mark_clean(runs_dir: Path) -> None:
    """Record which finished runs have nothing left, so that they are not searched again."""
    for name, entry in index.read(runs_dir).items():
        if entry.state == "done" and not entry.is_clean and not any(_left(runs_dir, name, entry)):
            with contextlib.suppress(OSError):  # another user's, or the run was acquired again meanwhile
                index.rename(runs_dir, name, entry, entry._replace(is_clean=True))


def _old(folders: Iterable[Path], name: re.Pattern[str], days: float, *markers: str) -> list[Path]:
    """Return those folders that have such a name and these files, and in which nothing changed for some days."""
    ours = (path for path in folders if name.fullmatch(path.name))
    marked = sorted(path for path in ours if all(_is_real(path / marker) for marker in markers))
    oldest = time.time() - 86400 * days
    return [path for path in marked if all(file.lstat().st_mtime < oldest for file in chain([path], path.rglob("*")))]


def _is_real(path: Path) -> bool:
    """True if it exists, and neither it nor a folder that it is in is a link."""
    return path.exists() and path.resolve() == path
