"""Files written whole or not at all, and folders that can be written."""

import contextlib
import json
import os
import stat
import uuid
from pathlib import Path
from typing import Any

from aimv2.errors import UsageError


def write_json(path: Path, values: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # hosts that share the folder have processes alike
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); delete what is broken to have it made again") from error


def share(folder: Path) -> None:
    """If the folder is a group's to write, so is what this process makes from now on, whatever its umask was.

    Of a folder that is to be made, the one decides that it will be in, if that hands its group on (setgid).
    """
    path = folder.absolute()
    there = next(one for one in (path, *path.parents) if one.exists())
    needed = stat.S_IWGRP if there == path else stat.S_IWGRP | stat.S_ISGID
    if there.stat().st_mode & needed == needed:
        os.umask(os.umask(0) & ~stat.S_IRWXG)


def writable_folder(path: str, key: str) -> Path:
    """The folder, made if need be, once it is shown that a file can be written there.

    Raises:
        UsageError: it cannot.
    """
    folder = Path(path)
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 65536)
    except OSError as error:
        raise UsageError(f"{key}={path!r} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return folder
