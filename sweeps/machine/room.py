"""How many runs this machine has room for at once: cores, memory, GPUs, of what this process may use of them.

Room is what there is, whoever uses it at present: workers wait for memory that others have as they wait for cores
(``sweeps/machine/slots.py``), and only what would never fit is refused.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from aimv2.config.run_config import RunConfig
from aimv2.cost import num_parameters
from aimv2.objectives import objective
from sweeps.machine import cgroup

BYTES_PER_PARAMETER = 16  # a weight, its gradient and AdamW's two moments, in float32
PROCESS_BYTES = 600_000_000  # of a worker with torch, before it has a model


@dataclass(frozen=True)
class Room:
    """Workers that fit, and what there is no room for more of."""

    workers: int
    limit: str


def room(runs: Iterable[RunConfig]) -> Room:
    """Room on this machine for workers that do these runs, each of them the largest."""
    shapes = list({replace(run, seed=0): None for run in runs})
    threads = max(run.threads for run in shapes)
    found = [Room(num_cores() // threads, f"{num_cores()} cores have room for at threads={threads}")]
    if any(run.device == "cuda" for run in shapes):
        found.append(Room(num_gpus(), f"{num_gpus()} GPUs have room for"))
    else:
        needed, memory = largest_bytes(shapes), total_memory()
        found.append(
            Room(int(memory // needed), f"{memory / 1e9:.1f} GB of memory have room for, {needed / 1e9:.1f} GB each")
        )
    return min(found, key=lambda one: one.workers)


def shortage(runs: Iterable[RunConfig]) -> str:
    """What workers will have to wait for, as a sentence; empty if there is memory for one of them now."""
    runs = list(runs)
    if any(run.device == "cuda" for run in runs):
        return ""
    needed, free = largest_bytes(runs), available_memory()
    if free >= needed:
        return ""
    return f"a run needs {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: workers wait for more"


def largest_bytes(runs: Iterable[RunConfig]) -> int:
    """Memory that the largest of these runs takes."""
    return max(memory_bytes(run) for run in {replace(run, seed=0): None for run in runs})


def memory_bytes(run: RunConfig) -> int:
    """Memory that training takes, at most: weights with what the optimizer keeps, and activations of a batch."""
    parts = objective(run.objective.name).cost(run)
    kept = sum(part.kept + run.model.max_text_tokens * part.kept_per_token for part in parts)
    return int(
        PROCESS_BYTES
        + BYTES_PER_PARAMETER * num_parameters(parts)
        + 4 * run.budget.batch_size * kept * (run.budget.samples > 0)
    )


def total_memory() -> int:
    """Bytes that this process and others of its control group may take in all."""
    there = _meminfo("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = cgroup.memory_limit()
    return there if limit is None else min(there, limit)


def available_memory() -> int:
    """Bytes that programs can still take; all there is where the system does not say what is free (macOS)."""
    free, left = _meminfo("MemAvailable") or total_memory(), cgroup.memory_left()
    return free if left is None else min(free, left)


def _meminfo(name: str) -> int | None:
    path = Path("/proc/meminfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def num_cores() -> int:
    """Cores that this process may use, at least one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup.cores()
    return there if limit is None else max(min(there, int(limit)), 1)


def num_gpus() -> int:
    """CUDA devices that this process may use."""
    import torch

    return torch.cuda.device_count()
