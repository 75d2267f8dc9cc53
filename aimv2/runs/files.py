"""Atomic writes, users of a shared folder, and checks that a folder can be used."""

import contextlib
import errno
import getpass
import json
import os
import stat
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # process ids repeat on hosts that share the folder
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS)  # where a file system has no hard links


def link_text(path: Path, text: str, stored: Path) -> None:
    """Write a file as a hard link to ``stored``, which is written if it is missing.

    Files with the same text then share its space on the disk. Where that cannot be, because the stored file was changed
    or cannot be linked, the file is an ordinary one.
    """
    with contextlib.suppress(OSError):  # of another owner, linked too often, or no place for it
        stored.parent.mkdir(exist_ok=True)
        if not stored.exists():
            write_text(stored, text)
        if stored.read_bytes() == text.encode():
            path.unlink(missing_ok=True)
            os.link(stored, path)
            return
        print(f"{stored} is not used: it was changed; delete it", file=sys.stderr)
    write_text(path, text)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); delete the file and run the command again") from error


def share(folder: Path) -> None:
    """If the group may write to the folder, let it write to all files that this process creates from now on.

    For a folder that does not exist yet its closest existing parent decides; that parent must also pass its group on
    (setgid).
    """
    path = folder.absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    needed = stat.S_IWGRP if existing == path else stat.S_IWGRP | stat.S_ISGID
    if existing.stat().st_mode & needed == needed:
        os.umask(os.umask(0) & ~stat.S_IRWXG)


def user() -> str:
    """Return the name of this process's user, or its number if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def writable_folder(path: str, key: str, *, needs_links: bool = False) -> Path:
    """Create the folder if needed, write a test file to it and return it.

    Args:
        needs_links: link the file into another folder too, as a result is when it is published.

    Raises:
        UsageError: the folder cannot be used; the message names the key that set it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writable-", dir=folder, ignore_cleanup_errors=True) as probe:
            file, other = Path(probe, "file"), Path(probe, "folder")
            file.write_bytes(b"x" * 65536)
            other.mkdir()
            if needs_links:
                os.link(file, other / "file")
    except OSError as error:
        problem = "cannot be written"
        if error.filename2 and error.errno in NO_LINKS:  # only a link has two names
            problem = "is on a file system without hard links across folders (BeeGFS before 7.4, for example)"
        raise UsageError(f"{key}={path!r} {problem}: {error.strerror}") from error
    return folder
