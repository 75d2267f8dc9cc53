"""Seats on this machine: however many launches there are, no more threads compute at once than it has cores."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sweeps.room import num_cores


@contextmanager
def seats(num_threads: int) -> Iterator[bool]:
    """Try to take a seat a thread for the length of the context; gives False when too few are free.

    A seat is a lock that the kernel holds for this process and takes back when it ends, however it ends.
    """
    folder = Path(tempfile.gettempdir()) / f"aimv2-seats-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as taken:
        count = 0
        for number in range(num_cores()):
            file = taken.enter_context((folder / str(number)).open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            count += 1
            if count == num_threads:
                break
        if count < num_threads:
            taken.close()  # not enough: leave them to others
        yield count == num_threads
