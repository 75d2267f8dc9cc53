"""Seats on this machine: however many launches there are, no more workers compute at once than it has room for."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def seat(num_seats: int) -> Iterator[bool]:
    """Try to sit down for the length of the context; gives False when every seat is taken.

    A seat is a lock that the kernel holds for this process and takes back when it ends, however it ends.
    """
    folder = Path(tempfile.gettempdir()) / f"aimv2-seats-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for number in range(num_seats):
        with (folder / str(number)).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield True
            return
    yield False


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
