"""Checkpoints that nobody will go on from."""

import shutil
from pathlib import Path

from aimv2.lease import is_held
from aimv2.record import CHECKPOINT, CHECKPOINT_PARTIAL, RunFolder
from sweeps.launches import ended


def prune(runs_dir: Path) -> int:
    """Delete checkpoints of runs that are done, older ones than the newest of the others, what kills left of unfinished
    ones, and the folders of launches that died. Runs that somebody is at are left alone, and results always.

    Returns:
        bytes that were freed.
    """
    freed = 0
    for folder in sorted(runs_dir.glob("v*-*")):
        run, is_newest = RunFolder(runs_dir, folder.name), True
        attempts = sorted(folder.glob("attempts/[0-9]*"), reverse=True)
        if any(is_held(attempt) for attempt in attempts[:1]):
            continue
        for attempt in attempts:
            freed += _delete(attempt / CHECKPOINT_PARTIAL)
            if (attempt / CHECKPOINT).exists():
                if run.is_done or not is_newest:
                    freed += _delete(attempt / CHECKPOINT)
                is_newest = False
    for folder in ended(runs_dir):
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _delete(path: Path) -> int:
    """Delete a file, or a folder with what is in it; gives the bytes that it had."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size
