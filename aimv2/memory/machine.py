"""The memory and the cores of this machine that this process may use."""

import os
import shutil
from pathlib import Path

from aimv2.config.program import Program
from aimv2.memory import cgroup

ROOT = Path("/")
CORES = "AIMV2_CORES"  # environment variable: cores of each rank, where several runs or ranks share a machine


def num_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, at least one; ``root`` is that of ``total_memory``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup.cores(root)
    return cores if limit is None else max(min(cores, int(limit)), 1)


def rank_memory(config: Program) -> int:
    """Return the bytes of memory that each rank of a run has here: a GPU's, or its part of the machine's.

    Args:
        config: with ``device`` resolved.
    """
    return gpu_memory() if config.device == "cuda" else total_memory() // ranks_here(config)


def rank_cores(config: Program) -> int:
    """Return the cores that each rank of a run may use here: those that CORES says, or its part of the process's."""
    given = os.environ.get(CORES)
    return min(int(given), num_cores()) if given else max(num_cores() // ranks_here(config), 1)


def rank_shared_memory(config: Program, folder: Path = Path("/dev/shm")) -> int:
    """Return the bytes of shared memory that each rank may take here; Docker gives a container 64 MB by default."""
    free = shutil.disk_usage(folder).free if folder.exists() else total_memory()  # macOS has no such folder
    return free // ranks_here(config)


def ranks_here(config: Program) -> int:
    """Return how many ranks of a run share this machine: torchrun and submitit say it; otherwise all do."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", config.ranks)) if config.ranks > 1 else 1


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


def gpu_memory() -> int:
    """Return the bytes of memory of the smallest GPU; 0 without one."""
    import torch

    sizes = (torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count()))
    return min(sizes, default=0)


def _meminfo(name: str, root: Path) -> int | None:
    path = root / "proc/meminfo"
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
