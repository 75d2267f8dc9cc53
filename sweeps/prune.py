"""Delete checkpoints, code snapshots and logs that are no longer needed."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aimv2.runs.lease import file_system_time, is_held
from aimv2.runs.provenance import digest_of
from aimv2.runs.record import CHECKPOINT, CHECKPOINT_PARTIAL, RunFolder
from sweeps.active_launches import active_launches, ended

LOG_DAYS = 7
CODE_DAYS = 1  # since a launch used it: a launch that is still rendering its data is not active yet


@dataclass
class Freed:
    """Freed bytes."""

    checkpoints: int = 0
    code: int = 0
    logs: int = 0

    @property
    def total(self) -> int:
        return self.checkpoints + self.code + self.logs


def prune(runs_dir: Path) -> Freed:
    """Delete files of the runs folder that are no longer needed. Results always stay.

    - checkpoints of finished runs, and of other runs those that their next attempt would not use
    - unfinished files of killed processes, and folders of launches that died
    - code snapshots that no checkpoint was made with and no launch used for CODE_DAYS
    - workers' logs older than LOG_DAYS

    While a launch is active, the checkpoints of its runs and all code snapshots and logs stay. If this code can use no
    checkpoint of a run, all of them stay: the code that made them may come back.
    """
    launches = active_launches(runs_dir)
    requested = frozenset().union(*(launch.runs for launch in launches))
    freed = Freed()
    for folder in sorted(runs_dir.glob("v*-*")):
        run = RunFolder(runs_dir, folder.name)
        attempts = sorted(folder.glob("attempts/[0-9]*"), reverse=True)
        if run.name not in requested and not any(is_held(attempt, file_system_time) for attempt in attempts[:1]):
            freed.checkpoints += _prune_run(run, attempts)
    for folder in ended(runs_dir):
        shutil.rmtree(folder, ignore_errors=True)
    if not launches:
        freed.code = _prune_code(runs_dir)
        freed.logs = _prune_logs(runs_dir)
    return freed


def _prune_run(run: RunFolder, attempts: list[Path]) -> int:
    from aimv2.training import checkpoint

    freed = sum(_delete(attempt / CHECKPOINT_PARTIAL) for attempt in attempts)
    saved = [attempt for attempt in attempts if (attempt / CHECKPOINT).exists()]
    if run.is_done:
        return freed + sum(_delete(attempt / CHECKPOINT) for attempt in saved)
    if len(saved) < 2:
        return freed
    found = checkpoint.find(saved)  # newest first, in the order of the next attempt
    unused = [] if found is None else [attempt for attempt in saved if int(attempt.name) != found.attempt]
    return freed + sum(_delete(attempt / CHECKPOINT) for attempt in unused)


def _prune_code(runs_dir: Path) -> int:
    """Delete snapshots that no checkpoint was made with, and unfinished ones."""
    oldest = time.time() - 86400 * CODE_DAYS
    snapshots = [path for path in (runs_dir / "code").glob("*") if path.is_dir() and path.stat().st_mtime < oldest]
    needed = _codes(runs_dir.glob(f"v*-*/attempts/*/{CHECKPOINT}")) if snapshots else set()
    return sum(
        _delete(snapshot)
        for snapshot in snapshots
        if snapshot.name.startswith(".") or digest_of(snapshot / "aimv2") not in needed
    )


def _codes(checkpoints: Iterable[Path]) -> set[str]:
    from aimv2.training.checkpoint import code_of

    return {code_of(path.parent) for path in checkpoints}


def _prune_logs(runs_dir: Path) -> int:
    """Delete logs that were not written to for LOG_DAYS."""
    oldest = time.time() - 86400 * LOG_DAYS
    folders = [path for path in (runs_dir / "workers").glob("*") if path.is_dir()]
    return sum(_delete(folder) for folder in folders if _last_written(folder) < oldest)


def _last_written(folder: Path) -> float:
    return max((path.stat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)


def _delete(path: Path) -> int:
    """Delete a file or a folder and return its size in bytes."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size
