"""How many runs this machine has room for at once: cores, memory, GPUs."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from aimv2.config import RunConfig

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
        needed = max(map(memory_bytes, shapes))
        memory = available_memory()
        found.append(
            Room(
                int(memory // needed), f"{memory / 1e9:.1f} GB of free memory have room for, {needed / 1e9:.1f} GB each"
            )
        )
    return min(found, key=lambda one: one.workers)


def memory_bytes(run: RunConfig) -> int:
    """Memory that training takes, at most: weights with what the optimizer keeps, and activations of a batch."""
    from aimv2.model.network import num_parameters
    from aimv2.objectives import objective

    parts = objective(run.objective.name).cost(run)
    kept = sum(part.kept + run.model.max_text_tokens * part.kept_per_token for part in parts)
    return int(
        PROCESS_BYTES
        + BYTES_PER_PARAMETER * sum(num_parameters(run).values())
        + 4 * run.budget.batch_size * kept * (run.budget.samples > 0)
    )


def available_memory() -> int:
    """Bytes that programs can still take."""
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS does not say what is free


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_gpus() -> int:
    """CUDA devices that this process may use."""
    import torch

    return torch.cuda.device_count()
