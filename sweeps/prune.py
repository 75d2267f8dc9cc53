"""Delete checkpoints, code snapshots and logs that are no longer needed."""

import shutil
import time
from pathlib import Path

from aimv2.runs.lease import is_held
from aimv2.runs.provenance import recorded_digests
from aimv2.runs.record import CHECKPOINT, CHECKPOINT_PARTIAL, RunFolder
from sweeps.active_launches import active_launches, ended

LOG_DAYS = 7
CODE_DAYS = 1  # since a launch used it: a launch that is still rendering its data is not active yet


def prune(runs_dir: Path) -> dict[str, int]:
    """Delete files of the runs folder that are no longer needed. Results always stay.

    - checkpoints of finished runs, and of other runs those that their next attempt would not use
    - unfinished files of killed processes, and folders of launches that died
    - code snapshots that no checkpoint was made with and no launch used for CODE_DAYS
    - workers' logs older than LOG_DAYS

    While a launch is active, the checkpoints of its runs and all code snapshots and logs stay. If this code can use no
    checkpoint of a run, all of them stay: the code that made them may come back.

    Returns:
        Bytes of the deleted ``checkpoints``, ``code snapshots`` and ``logs``.
    """
    launches = active_launches(runs_dir)
    requested = frozenset().union(*(launch.runs for launch in launches))
    freed = {"checkpoints": 0, "code snapshots": 0, "logs": 0}
    for folder in sorted(runs_dir.glob("v*-*")):
        run = RunFolder(runs_dir, folder.name)
        attempts = sorted(folder.glob("attempts/[0-9]*"), reverse=True)
        if run.name not in requested and not any(is_held(attempt) for attempt in attempts[:1]):
            freed["checkpoints"] += _prune_run(run, attempts)
    for folder in ended(runs_dir):
        shutil.rmtree(folder, ignore_errors=True)
    if not launches:
        freed["code snapshots"] = _prune_code(runs_dir)
        freed["logs"] = _prune_logs(runs_dir)
    return freed


def _prune_run(run: RunFolder, attempts: list[Path]) -> int:
    from aimv2.training import checkpoint

    unused = [attempt for attempt in attempts if (attempt / CHECKPOINT).exists()]
    if not run.is_done:
        found = checkpoint.find(unused) if len(unused) > 1 else None  # newest first, in the order of the next attempt
        unused = [] if found is None else [attempt for attempt in unused if int(attempt.name) != found.attempt]
    return sum(_delete(attempt / CHECKPOINT_PARTIAL) for attempt in attempts) + sum(
        _delete(attempt / CHECKPOINT) for attempt in unused
    )


def _prune_code(runs_dir: Path) -> int:
    """Delete snapshots that no checkpoint was made with, and unfinished ones."""
    from aimv2.training.checkpoint import code_of

    oldest = time.time() - 86400 * CODE_DAYS
    snapshots = [path for path in (runs_dir / "code").glob("*") if path.is_dir() and path.stat().st_mtime < oldest]
    needed = {code_of(path.parent) for path in runs_dir.glob(f"v*-*/attempts/*/{CHECKPOINT}") if snapshots}
    return sum(
        _delete(snapshot)
        for snapshot in snapshots
        if snapshot.name.startswith(".") or not recorded_digests(snapshot / "aimv2") & needed
    )


def _prune_logs(runs_dir: Path) -> int:
    """Delete logs that were not written to for LOG_DAYS."""
    oldest = time.time() - 86400 * LOG_DAYS
    folders = [path for path in (runs_dir / "workers").glob("*") if path.is_dir()]
    return sum(
        _delete(folder)
        for folder in folders
        if all(path.stat().st_mtime < oldest for path in (folder, *folder.rglob("*")))
    )


def _delete(path: Path) -> int:
    """Delete a file or a folder and return its size in bytes."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size
