"""What nobody will go on from or look at again: checkpoints, copies of code, workers' logs."""

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
CODE_DAYS = 1  # since a launch took it: one that is drawing its data is not at work yet


@dataclass
class Freed:
    """Bytes that pruning freed, by what had them."""

    checkpoints: int = 0
    code: int = 0
    logs: int = 0

    @property
    def total(self) -> int:
        return self.checkpoints + self.code + self.logs


def prune(runs_dir: Path) -> Freed:
    """Delete checkpoints of runs that are done, and of the others those that their next attempt would not use; what
    kills left of unfinished ones; the folders of launches that died; copies of the code that no checkpoint is of and no
    launch took for a day, and workers' logs older than a week. Results stay always.

    Left alone is what a launch at work may want: its runs' checkpoints, and then all code and logs. So are the
    checkpoints of a run of which this code can use none: they may be of code that comes back.
    """
    at_work = active_launches(runs_dir)
    wanted = frozenset().union(*(active.runs for active in at_work))
    freed = Freed()
    for folder in sorted(runs_dir.glob("v*-*")):
        run = RunFolder(runs_dir, folder.name)
        attempts = sorted(folder.glob("attempts/[0-9]*"), reverse=True)
        if run.name not in wanted and not any(is_held(attempt, file_system_time) for attempt in attempts[:1]):
            freed.checkpoints += _prune_run(run, attempts)
    for folder in ended(runs_dir):
        shutil.rmtree(folder, ignore_errors=True)
    if not at_work:
        freed.code = _prune_code(runs_dir)
        freed.logs = _prune_logs(runs_dir)
    return freed


def _prune_run(run: RunFolder, attempts: list[Path]) -> int:
    from aimv2.training import checkpoint

    freed = sum(_delete(attempt / CHECKPOINT_PARTIAL) for attempt in attempts)
    kept = [attempt for attempt in attempts if (attempt / CHECKPOINT).exists()]
    if run.is_done:
        return freed + sum(_delete(attempt / CHECKPOINT) for attempt in kept)
    if len(kept) < 2:
        return freed
    found = checkpoint.find(kept)  # newest first, as the next attempt will look
    unused = [] if found is None else [attempt for attempt in kept if int(attempt.name) != found.attempt]
    return freed + sum(_delete(attempt / CHECKPOINT) for attempt in unused)


def _prune_code(runs_dir: Path) -> int:
    """Copies that no checkpoint was made with, and what kills left of unfinished ones."""
    oldest = time.time() - 86400 * CODE_DAYS
    copies = [path for path in (runs_dir / "code").glob("*") if path.is_dir() and path.stat().st_mtime < oldest]
    needed = _codes(runs_dir.glob(f"v*-*/attempts/*/{CHECKPOINT}")) if copies else set()
    return sum(_delete(copy) for copy in copies if copy.name.startswith(".") or digest_of(copy / "aimv2") not in needed)


def _codes(checkpoints: Iterable[Path]) -> set[str]:
    from aimv2.training.checkpoint import code_of

    return {code_of(path.parent) for path in checkpoints}


def _prune_logs(runs_dir: Path) -> int:
    """Of workers of which nothing was heard for a week."""
    oldest = time.time() - 86400 * LOG_DAYS
    folders = [path for path in (runs_dir / "workers").glob("*") if path.is_dir()]
    return sum(_delete(folder) for folder in folders if _last_written(folder) < oldest)


def _last_written(folder: Path) -> float:
    return max((path.stat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)


def _delete(path: Path) -> int:
    """Delete a file, or a folder with what is in it; gives the bytes that it had."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size
