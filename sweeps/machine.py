"""How many runs fit this machine, and its slots: a core per thread, a GPU or a share of one, and memory.

Room counts all resources, those in use included: workers wait for busy memory as they wait for busy cores. Only what
can never fit is refused. However many launches there are, no more threads compute at once than there are cores, no GPU
has more runs than requested, and no run starts without the memory that it needs. A slot is a file lock: the kernel
releases it when its process ends, however it ends.
"""

import contextlib
import fcntl
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.memory.machine import available_memory, gpu_memory, num_cores, total_memory
from aimv2.memory.setup import choose


def num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def resident_memory(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0 if it has ended or belongs to another container."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@dataclass(frozen=True)
class Machine:
    """This machine's resources, as functions, since most are read again at every use; those of GPUs load torch."""

    num_cores: Callable[[], int] = num_cores
    total_memory: Callable[[], int] = total_memory
    available_memory: Callable[[], int] = available_memory
    resident_memory: Callable[[int], int] = resident_memory
    num_gpus: Callable[[], int] = num_gpus
    gpu_memory: Callable[[], int] = gpu_memory


HERE = Machine()


class Room(NamedTuple):
    """The number of workers that fit, and a phrase that names the resource that limits it."""

    workers: int
    limit: str


def room(runs: Sequence[Program], runs_per_gpu: int = 1, machine: Machine = HERE) -> Room:
    """Return how many workers fit this machine if each does the largest of these runs, with all of its ranks."""
    ranks, threads, cores = max_ranks(runs), max(run.threads for run in runs), machine.num_cores()
    each_rank = f"ranks={ranks}, " if ranks > 1 else ""
    needed = f"and a run needs {ranks * threads} ({each_rank}threads={threads})"
    rooms = [Room(cores // (ranks * threads), f"has {cores} cores, {needed}")]
    if any(run.device == "cuda" for run in runs):
        gpus, memory = machine.num_gpus(), machine.gpu_memory() // runs_per_gpu
        each = f", for {runs_per_gpu} runs each" if runs_per_gpu > 1 else ""
        needed = f", and a run needs {ranks} (ranks={ranks})" if ranks > 1 else ""
        rooms.append(Room(gpus * runs_per_gpu // ranks, f"has {gpus} GPUs{each}{needed}"))
        if gpus and memory and not (largest := largest_run(runs, memory)).fits:
            rooms.append(Room(0, f"has {_described(memory, largest)}{' on a GPU' + each}"))
    else:
        memory = machine.total_memory() // ranks
        largest = largest_run(runs, memory)
        workers = memory // largest.needed if largest.fits else 0
        rooms.append(Room(workers, f"has {_described(memory, largest)}{' for each rank' * (ranks > 1)}"))
    return min(rooms, key=lambda room: room.workers)


def max_ranks(runs: Iterable[Program]) -> int:
    return max(run.ranks for run in runs)


def largest_bytes(runs: Sequence[Program], machine: Machine = HERE) -> int:
    """Return the bytes that the largest of these runs, on the CPU, takes on this machine, with all of its ranks."""
    ranks = max_ranks(runs)
    return ranks * largest_run(runs, machine.total_memory() // ranks).needed


class Need(NamedTuple):
    """The bytes of memory that a run takes, and those that it may use."""

    needed: int
    usable: int

    @property
    def fits(self) -> bool:
        return self.needed <= self.usable


def largest_run(runs: Iterable[Program], available: int) -> Need:
    """Return the memory of the run that takes the most, given the bytes that each rank has."""

    def need(run: Program) -> Need:
        if not isinstance(run, RunConfig):
            return Need(run.memory_bytes, available)
        choice = choose(run, available)
        return Need(choice.needed, choice.usable)

    return max(map(need, {run.with_seed(0): None for run in runs}), key=lambda need: need.needed)


def _described(memory: int, largest: Need) -> str:
    usable, needed = largest.usable / 1e9, largest.needed / 1e9
    return f"{memory / 1e9:.1f} GB of memory ({usable:.1f} usable), and a run needs {needed:,.1f} GB"


@contextmanager
def run_slots(
    run: Program,
    memory_needed: Callable[[], int],
    runs_per_gpu: int | None = 1,
    machine: Machine = HERE,
) -> Iterator[Sequence[int] | None]:
    """Try to hold the slots of a worker for the length of the context: for each rank a core per thread, and memory, or
    with CUDA a GPU, of which the first becomes this process's device.

    Yields the numbers of the GPUs, empty without CUDA; None when too little is free. ``memory_needed`` returns the
    bytes of all ranks; ``runs_per_gpu`` is None where a scheduler assigns resources, and no slot is needed.
    """
    if runs_per_gpu is None:
        yield ()
        return
    with ExitStack() as held:
        is_free, gpus = held.enter_context(core_slots(run.ranks * run.threads, machine)), list[int]()
        if is_free and run.device == "cuda":
            import torch

            slots = [held.enter_context(gpu_slot(runs_per_gpu, machine)) for _ in range(run.ranks)]
            gpus = [gpu for gpu in slots if gpu is not None]
            is_free = len(gpus) == run.ranks
            if is_free:
                torch.cuda.set_device(gpus[0])
            else:
                held.close()  # leave the others to other runs
        elif is_free:
            is_free = held.enter_context(memory_slot(memory_needed(), machine))
        yield gpus if is_free else None


@contextmanager
def core_slots(wanted: int, machine: Machine = HERE) -> Iterator[bool]:
    """Try to hold this many cores. Yields False, and holds none, when too few are free."""
    with ExitStack() as held:
        num_held = 0
        for number in range(machine.num_cores()):
            num_held += num_held < wanted and _lock(held, f"core-{number}", fcntl.LOCK_EX)
        if num_held < wanted:
            held.close()  # leave them to others
        yield num_held == wanted


@contextmanager
def gpu_slot(runs_per_gpu: int = 1, machine: Machine = HERE) -> Iterator[int | None]:
    """Try to hold a GPU, or one of its ``runs_per_gpu`` shares. Yields its number, or None when all are taken. A whole
    GPU and shares of it exclude each other."""
    for share in range(runs_per_gpu):  # share by share, so that processes spread over the GPUs
        for gpu in range(machine.num_gpus()):
            with ExitStack() as held:
                is_free = _lock(held, f"gpu-{gpu}", fcntl.LOCK_EX if runs_per_gpu == 1 else fcntl.LOCK_SH)
                if is_free and (runs_per_gpu == 1 or _lock(held, f"gpu-{gpu}-share-{share}", fcntl.LOCK_EX)):
                    yield gpu
                    return
    yield None


@contextmanager
def memory_slot(needed: int, machine: Machine = HERE) -> Iterator[bool]:
    """Try to reserve this many bytes for this process, in a locked file that holds their number. Yields False when they
    are not free, or reserved by other processes."""
    folder = _folder()
    with ExitStack() as held:
        with (folder / "memory").open("w") as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            free = machine.available_memory() - _reserved(folder, machine)
            is_free = free >= needed - machine.resident_memory(os.getpid())
            if is_free:
                path = folder / f"memory-{os.getpid()}-{uuid.uuid4().hex[:12]}"
                file = held.enter_context(path.open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(str(needed))
                file.flush()
        yield is_free


def _reserved(folder: Path, machine: Machine) -> int:
    """Return the bytes that processes reserved and have not allocated yet."""
    reserved = 0
    for path in folder.glob("memory-*"):
        pid = int(path.name.split("-")[1])
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                reserved += max(int(file.read()) - machine.resident_memory(pid), 0)
            else:
                path.unlink()  # its process has ended
    return reserved


def _lock(held: ExitStack, name: str, kind: int) -> bool:
    """Try to lock a file until ``held`` is closed."""
    file = (_folder() / name).open("w")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    held.enter_context(file)
    return True


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"aimv2-slots-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder
