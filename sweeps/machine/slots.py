"""Seats on this machine: however many launches there are, no more threads compute at once than it has cores, no two
workers on one GPU, and none whose run has not the memory that it needs."""

import contextlib
import fcntl
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from aimv2.config.run_config import RunConfig
from sweeps.machine.room import available_memory, num_cores, num_gpus


@contextmanager
def seated(run: RunConfig, memory_needed: Callable[[], int]) -> Iterator[bool]:
    """Try to take what runs of this kind compute on for the length of the context: a core a thread, and memory, or with
    CUDA a GPU, which becomes this process's. Gives False when too little is free.

    Args:
        memory_needed: bytes that the largest run takes; asked once there are cores.
    """
    with ExitStack() as taken:
        is_free = bool(taken.enter_context(seats("core", run.threads)))
        if is_free and run.device == "cuda":
            import torch

            gpus = taken.enter_context(seats("gpu", 1))
            is_free = bool(gpus)
            if gpus:
                torch.cuda.set_device(gpus[0])
        elif is_free:
            is_free = taken.enter_context(memory(memory_needed()))
        yield is_free


@contextmanager
def memory(needed: int) -> Iterator[bool]:
    """Try to promise this process so many bytes for the length of the context; gives whether they are free.

    What others were promised and have not taken yet is not free. A promise is a locked file that says how much, so it
    ends with its process, however that ends.
    """
    folder = _folder()
    with ExitStack() as taken:
        with (folder / "memory").open("w") as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            is_free = available_memory() - _owed(folder) >= needed - _resident(os.getpid())
            if is_free:
                path = folder / f"memory-{os.getpid()}-{uuid.uuid4().hex[:12]}"
                file = taken.enter_context(path.open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(str(needed))
                file.flush()
        yield is_free


def _owed(folder: Path) -> int:
    """Bytes that processes were promised and have not taken yet."""
    owed = 0
    for path in folder.glob("memory-*"):
        pid = int(path.name.split("-")[1])
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                owed += max(int(file.read()) - _resident(pid), 0)
            else:
                path.unlink()  # its process has ended
    return owed


def _resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 if it is gone, or of another container."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextmanager
def seats(kind: Literal["core", "gpu"], wanted: int) -> Iterator[list[int]]:
    """Try to take so many; gives their numbers, none when too few are free.

    A seat is a lock that the kernel holds for this process and takes back when it ends, however it ends.
    """
    folder = _folder()
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


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"aimv2-seats-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder
