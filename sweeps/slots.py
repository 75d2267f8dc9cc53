"""Seats on this machine: however many launches there are, no more threads compute at once than it has cores, and no two
workers on one GPU."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from aimv2.config import RunConfig
from sweeps.room import num_cores, num_gpus


@contextmanager
def seated(run: RunConfig) -> Iterator[bool]:
    """Try to take what runs of this kind compute on for the length of the context: a core a thread, and with CUDA a
    GPU, which becomes this process's. Gives False when too few are free."""
    with ExitStack() as taken:
        is_free = bool(taken.enter_context(seats("core", run.threads)))
        if is_free and run.device == "cuda":
            import torch

            gpus = taken.enter_context(seats("gpu", 1))
            is_free = bool(gpus)
            if gpus:
                torch.cuda.set_device(gpus[0])
        yield is_free


@contextmanager
def seats(kind: Literal["core", "gpu"], wanted: int) -> Iterator[list[int]]:
    """Try to take so many; gives their numbers, none when too few are free.

    A seat is a lock that the kernel holds for this process and takes back when it ends, however it ends.
    """
    folder = Path(tempfile.gettempdir()) / f"aimv2-seats-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as taken:
        numbers: list[int] = []
        for number in range(num_cores() if kind == "core" else num_gpus()):
            file = taken.enter_context((folder / f"{kind}-{number}").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            numbers.append(number)
            if len(numbers) == wanted:
                break
        if len(numbers) < wanted:
            taken.close()  # not enough: leave them to others
            numbers = []
        yield numbers
