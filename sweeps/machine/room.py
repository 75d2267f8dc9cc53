"""The number of runs that fit this machine at once, by the cores, memory and GPUs that this process may use.

Room counts all resources, those in use included: workers wait for busy memory as they wait for busy cores
(``sweeps/machine/slots.py``). Only what can never fit is refused.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

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
    """This machine's resources. Each is a function, since most are read again at every use; GPUs load torch."""

    num_cores: Callable[[], int] = num_cores
    total_memory: Callable[[], int] = total_memory
    available_memory: Callable[[], int] = available_memory
    resident_memory: Callable[[int], int] = resident_memory
    num_gpus: Callable[[], int] = num_gpus
    gpu_memory: Callable[[], int] = gpu_memory


HERE = Machine()


@dataclass(frozen=True)
class Room:
    """The number of workers that fit, and a phrase that names the resource that limits it."""

    workers: int
    limit: str


def room(runs: Sequence[Program], runs_per_gpu: int = 1, machine: Machine = HERE) -> Room:
    """Return how many workers fit this machine if each does the largest of these runs, with all of its ranks."""
    ranks, threads, cores = max_ranks(runs), max(run.threads for run in runs), machine.num_cores()
    each_rank = f"ranks={ranks}, " if ranks > 1 else ""
    needed = f"and a run needs {ranks * threads} ({each_rank}threads={threads})"
    found = [Room(cores // (ranks * threads), f"has {cores} cores, {needed}")]
    if any(run.device == "cuda" for run in runs):
        gpus, memory = machine.num_gpus(), machine.gpu_memory() // runs_per_gpu
        each = f", for {runs_per_gpu} runs each" if runs_per_gpu > 1 else ""
        needed = f", and a run needs {ranks} (ranks={ranks})" if ranks > 1 else ""
        found.append(Room(gpus * runs_per_gpu // ranks, f"has {gpus} GPUs{each}{needed}"))
        if gpus and memory and not (largest := largest_run(runs, memory)).fits:
            found.append(Room(0, f"has {_described(memory, largest)}{' on a GPU' + each}"))
    else:
        memory = machine.total_memory() // ranks
        largest = largest_run(runs, memory)
        workers = memory // largest.needed if largest.fits else 0
        found.append(Room(workers, f"has {_described(memory, largest)}{' for each rank' * (ranks > 1)}"))
    return min(found, key=lambda one: one.workers)


def max_ranks(runs: Iterable[Program]) -> int:
    """Return the number of processes of a worker that does these runs; untrained encoders need one."""
    return max(run.ranks for run in runs)


def resolve_runs_per_gpu(requested: int | Literal["auto"], runs: Iterable[Program], machine: Machine = HERE) -> int:
    """Return how many of these runs share a GPU; ``auto`` divides its usable memory by the largest run's."""
    if requested != "auto":
        return requested
    largest = largest_run(runs, machine.gpu_memory())
    return max(largest.usable // largest.needed, 1)


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


def _need(run: Program, available: int) -> Need:
    """Return the memory that a run takes of so many bytes."""
    if not isinstance(run, RunConfig):
        return Need(run.memory_bytes, available)
    choice = choose(run, available)
    return Need(choice.needed, choice.usable)


def largest_run(runs: Iterable[Program], available: int) -> Need:
    """Return the memory of the run that takes the most.

    Args:
        available: bytes of memory of each rank.
    """
    needs = (_need(run, available) for run in {run.with_seed(0): None for run in runs})
    return max(needs, key=lambda one: one.needed)


def _described(memory: int, largest: Need) -> str:
    return (
        f"{memory / 1e9:.1f} GB of memory ({largest.usable / 1e9:.1f} usable), and a run needs"
        f" {largest.needed / 1e9:,.1f} GB"
    )
