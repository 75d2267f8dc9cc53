"""The memory and the cores of this machine that this process may use."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from aimv2.config.program import Program

ROOT = Path("/")
CORES = "AIMV2_CORES"  # environment variable: cores of each rank, where several runs or ranks share a machine


def num_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, at least one; ``root`` is that of ``total_memory``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups(root):
        quota, _, period = _text(group / "cpu.max").strip().partition(" ")
        if quota.isdecimal():  # "max" is no limit
            cores = min(cores, int(quota) // int(period))
    return max(cores, 1)


def rank_memory(config: Program) -> int:
    """Return the bytes of memory that each rank of a run has here: a GPU's, or its part of the machine's."""
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
    """Return the bytes of memory that this process's control group may use, of the machine's."""
    machine = _meminfo("MemTotal", root) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for _, limit in _limited_groups(root))])


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes that programs can still allocate; all memory where the system does not report it (macOS). The
    kernel's cache of files counts as free."""
    free = [_meminfo("MemAvailable", root) or total_memory(root)]
    for group, limit in _limited_groups(root):
        used = int(_text(group / "memory.current") or 0)
        cached = int(_counts(group / "memory.stat").get("inactive_file", 0))  # not used lately
        free.append(max(limit - used + cached, 0))
    return min(free)


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


def oom_kills(root: Path = ROOT) -> int:
    """Return how many processes of the group the kernel has killed so far because memory ran out.

    Where no group counts them, those of the whole machine count; the result is 0 if nothing does.
    """
    for path in (*(group / "memory.events" for group in _groups(root)), root / "proc/vmstat"):
        if kills := _counts(path).get("oom_kill"):
            return int(kills)
    return 0


def _limited_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the groups that limit memory, with the limit in bytes."""
    for group in _groups(root):
        limit = _text(group / "memory.max").strip()
        if limit.isdecimal():  # "max" is no limit
            yield group, int(limit)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the process's control group and of its parents: containers and SLURM set limits of any."""
    path = next((line[3:] for line in _text(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    mount = root / "sys/fs/cgroup"
    if path is not None:
        folder = mount / path.lstrip("/")
        if ".." in folder.parts or not folder.is_dir():  # the path is the host's; the container sees its own group
            folder = mount
        yield from (group for group in (folder, *folder.parents) if group.is_relative_to(mount))


def _counts(path: Path) -> dict[str, str]:
    return dict(line.split() for line in _text(path).splitlines())


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
