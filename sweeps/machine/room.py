"""The number of runs that fit this machine at once, by the cores, memory and GPUs that this process may use.

Room counts all resources, those in use included: workers wait for busy memory as they wait for busy cores
(``sweeps/machine/slots.py``). Only what can never fit is refused.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aimv2.config.run_config import RunConfig
from aimv2.cost import num_parameters
from aimv2.objectives import objective
from sweeps.machine import cgroup

BYTES_PER_PARAMETER = 16  # a weight, its gradient and AdamW's two moments, in float32
PROCESS_BYTES = 600_000_000  # a worker with torch, before it has a model; on a GPU, its CUDA context
GPU_MARGIN = 1.25  # on a run's predicted memory: evaluation has its own peak, and the allocator rounds up

ROOT = Path("/")


def total_memory(root: Path = ROOT) -> int:
    """Return the bytes of memory that this process's control group may use, of the machine's.

    Args:
        root: file system that holds ``proc`` and ``sys``.
    """
    machine = _meminfo("MemTotal", root) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = cgroup.memory_limit(root)
    return machine if limit is None else min(machine, limit)


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes that programs can still allocate; all memory where the system does not report it (macOS)."""
    free, left = _meminfo("MemAvailable", root) or total_memory(root), cgroup.memory_left(root)
    return free if left is None else min(free, left)


def num_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup.cores(root)
    return cores if limit is None else max(min(cores, int(limit)), 1)


def num_gpus() -> int:
    """Return the number of CUDA devices that this process may use."""
    import torch

    return torch.cuda.device_count()


def gpu_memory() -> int:
    """Return the bytes of memory of the smallest GPU; 0 without one."""
    import torch

    sizes = (torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count()))
    return min(sizes, default=0)


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


def room(runs: Sequence[RunConfig], runs_per_gpu: int = 1, machine: Machine = HERE) -> Room:
    """Return how many workers fit this machine if each does the largest of these runs."""
    threads, cores = max(run.threads for run in runs), machine.num_cores()
    found = [Room(cores // threads, f"has {cores} cores, and a run needs {threads} (threads={threads})")]
    if any(run.device == "cuda" for run in runs):
        gpus = machine.num_gpus()
        each = f", for {runs_per_gpu} runs each" if runs_per_gpu > 1 else ""
        found.append(Room(gpus * runs_per_gpu, f"has {gpus} GPUs{each}"))
    else:
        needed, memory = largest_bytes(runs), machine.total_memory()
        found.append(
            Room(int(memory // needed), f"has {memory / 1e9:.1f} GB of memory, and a run needs {needed / 1e9:,.1f} GB")
        )
    return min(found, key=lambda one: one.workers)


def resolve_runs_per_gpu(requested: int | Literal["auto"], runs: Iterable[RunConfig], machine: Machine = HERE) -> int:
    """Return how many of these runs share a GPU; ``auto`` divides its memory by the largest run's, with GPU_MARGIN."""
    if requested != "auto":
        return requested
    return max(int(machine.gpu_memory() / (GPU_MARGIN * largest_bytes(runs))), 1)


def shortage(runs: Sequence[RunConfig], machine: Machine = HERE) -> str:
    """Return a sentence on the memory that workers have to wait for; empty if one of them can start now."""
    if any(run.device == "cuda" for run in runs):
        return ""
    needed, free = largest_bytes(runs), machine.available_memory()
    if free >= needed:
        return ""
    return f"a run needs {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: workers wait for more"


def largest_bytes(runs: Iterable[RunConfig]) -> int:
    """Return the memory that the largest of these runs takes, in bytes."""
    return max(memory_bytes(run) for run in {replace(run, seed=0): None for run in runs})


def memory_bytes(run: RunConfig) -> int:
    """Return an upper bound of the bytes that training takes: the process, weights, gradients, AdamW's moments, and
    the activations of a batch in float32."""
    parts = objective(run.objective.name).cost(run)
    saved = sum(part.saved + run.model.max_text_tokens * part.saved_per_token for part in parts)
    return int(
        PROCESS_BYTES
        + BYTES_PER_PARAMETER * num_parameters(parts)
        + 4 * run.budget.batch_size * saved * (run.budget.samples > 0)
    )


def _meminfo(name: str, root: Path) -> int | None:
    path = root / "proc/meminfo"
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
