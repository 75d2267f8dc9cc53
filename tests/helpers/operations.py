"""Count the file operations that Python code does in a folder, by kind."""

import builtins
import io
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

KINDS = {
    "stat": "stat", "lstat": "stat", "access": "stat", "open": "open", "fsync": "sync",
    "mkdir": "make", "link": "make", "symlink": "make", "rename": "rename", "replace": "rename",
    "unlink": "remove", "remove": "remove", "rmdir": "remove",
    "utime": "touch", "truncate": "touch", "chmod": "touch", "ftruncate": "touch",
}  # fmt: skip
LISTING_BYTES = 32768  # of names that the C library reads at once
ENTRY_BYTES = 24  # of a name, beside its letters


@contextmanager
def counted(folder: Path, counts: Counter[str] | None = None) -> Iterator[Counter[str]]:
    """Count operations on this folder, of all threads, within the context.

    An operation is a call that a server of files may have to answer: ``stat``, ``open``, the first ``read`` of an open
    file, each ``write`` to it, ``list`` (a chunk of 32 kB of names, about 600 runs), ``make`` (a folder or a link),
    ``rename``, ``remove``, ``touch`` (time, size or permissions) and ``sync``. Calls of libraries that do not use
    Python's files, such as safetensors and pyarrow, are not seen.
    """
    root, counts, lock = os.path.realpath(folder), Counter[str]() if counts is None else counts, threading.Lock()

    def count(kind: str, path: object, number: int = 1) -> None:
        if is_below(root, path):
            with lock:
                counts[kind] += number

    with mock.patch.multiple(os, **{name: _counting(getattr(os, name), kind, count) for name, kind in KINDS.items()}):
        scan, open_file = os.scandir, io.open

        def scandir(path="."):
            return _Listing(scan(path), lambda chunks: count("list", path, chunks))

        def listdir(path="."):
            with scandir(path) as found:
                return [entry.name for entry in found]

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **more):
            if not is_below(root, file) or isinstance(file, int):
                return open_file(file, mode, buffering, encoding, errors, newline, **more)
            count("open", file)
            raw = _File(file, mode, lambda kind: count(kind, file))
            return _buffered(raw, mode, buffering, encoding, errors, newline)

        with (
            mock.patch.object(os, "scandir", scandir),
            mock.patch.object(os, "listdir", listdir),
            mock.patch.object(io, "open", opened),
            mock.patch.object(builtins, "open", opened),
        ):
            yield counts


def is_below(root: str, path: object) -> bool:
    """True if a path, or the file of a descriptor, is in this folder."""
    try:
        whole = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(os.fspath(path))
    except (OSError, TypeError):
        return False
    return f"{whole}/".startswith(f"{root}/")


def _counting(call, kind, count):
    def counting(path=".", *arguments, dir_fd=None, **more):
        if not (kind == "stat" and isinstance(path, int)):  # of an open file: its attributes are known
            relative = dir_fd is not None and not os.path.isabs(path)
            count(kind, dir_fd if relative else path)
        return call(path, *arguments, **(more if dir_fd is None else more | {"dir_fd": dir_fd}))

    return counting


class _Listing:
    """A listing of a folder that counts the chunks in which its names come."""

    def __init__(self, entries, count):
        self._entries, self._count, self._bytes = entries, count, 0
        count(1)

    def __iter__(self):
        return self

    def __next__(self):
        entry = next(self._entries)
        self._bytes += ENTRY_BYTES + len(os.fsencode(entry.name))
        if self._bytes > LISTING_BYTES:
            self._bytes = 0
            self._count(1)
        return entry

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self._entries.close()


class _File(io.FileIO):
    def __init__(self, path, mode, count):
        super().__init__(path, mode.replace("b", "").replace("t", ""))
        self._count, self._was_read = count, False

    def _read_once(self):
        if not self._was_read:
            self._was_read = True
            self._count("read")

    def readall(self):
        self._read_once()
        return super().readall()

    def readinto(self, buffer):
        self._read_once()
        return super().readinto(buffer)

    def read(self, size=-1):
        self._read_once()
        return super().read(size)

    def write(self, data):
        self._count("write")
        return super().write(data)


def _buffered(raw, mode, buffering, encoding, errors, newline):
    if buffering == 0:
        return raw
    if raw.readable() and raw.writable():
        file = io.BufferedRandom(raw)
    else:
        file = io.BufferedReader(raw) if raw.readable() else io.BufferedWriter(raw)
    return file if "b" in mode else io.TextIOWrapper(file, encoding, errors, newline)
