"""Checks at the edge: arguments, typed values and folders, each refused in one sentence."""

import contextlib
import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimv2.config import explain
from aimv2.errors import UsageError, given_twice, unknown

HELP = frozenset({"-h", "--help"})


def key_values(arguments: Sequence[str], allowed: Collection[str], kind: str = "key") -> dict[str, str]:
    """Arguments of the form ``key=value`` by their keys, for commands that take no config.

    Raises:
        UsageError: an argument of another form or without a value, a key that is not allowed or is there twice.
    """
    values: dict[str, str] = {}
    for text in arguments:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"cannot read {text!r}: arguments have the form key=value")
        if key not in allowed:
            raise unknown(kind, key, allowed)
        if key in values:
            raise given_twice(key)
        if not value:
            raise UsageError(f"{key}= has no value")
        values[key] = value
    return values


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
