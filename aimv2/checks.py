"""Checks at the edge: typed values and folders, each refused in one sentence."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimv2.config import explain
from aimv2.errors import UsageError


def checked(key: str, kind: Any, value: Any) -> Any:
    """The value as the given type.

    Raises:
        UsageError: it cannot be; the sentence begins with the key.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{key}: {explain(error)}") from error


def share(folder: Path) -> None:
    """If the folder is a group's to write, so is what this process makes from now on, whatever its umask was."""
    if folder.stat().st_mode & stat.S_IWGRP:
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
