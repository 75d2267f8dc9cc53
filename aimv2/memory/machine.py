"""The hardware of this machine: its devices and compilers, and the memory and cores that this process may use.

torch takes seconds to load, so it is imported only if a GPU driver is present.
"""

import contextlib
import ctypes
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from aimv2.config.program import Program

ROOT = Path("/")
CORES = "AIMV2_CORES"  # environment variable: cores of each rank, where several runs or ranks share a machine
# Files that GPU drivers create on Linux: NVIDIA, Jetson, WSL, AMD.
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl", "/dev/dxg", "/dev/kfd")
UNLIMITED = 1 << 60  # bytes; control groups of version 1 write "no limit" as the largest multiple of a page


def num_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, at least one; ``root`` is that of ``total_memory``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_cores(root)
    return cores if limit is None else max(min(cores, int(limit)), 1)


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
    limit = memory_limit(root)
    return machine if limit is None else min(machine, limit)


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes that programs can still allocate; all memory where the system does not report it (macOS)."""
    free, left = _meminfo("MemAvailable", root) or total_memory(root), memory_left(root)
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


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that the group may use; None without a limit."""
    return min((limit for _, limit in _memory_groups(root)), default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Return the bytes that the group may still allocate; None without a limit. The kernel's cache of files counts as
    free."""
    left = []
    for folder, limit in _memory_groups(root):
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        values = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
        cached = int(values.get("total_inactive_file", values.get("inactive_file", 0)))  # not used lately
        left.append(max(limit - used + cached, 0))
    return min(left, default=None)


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes of the group the kernel has killed so far because memory ran out.

    Where no group counts them, those of the whole machine count; the result is 0 if nothing does.
    """
    files = [folder / name for folder in _groups(root, "memory") for name in ("memory.events", "memory.oom_control")]
    for path in (*files, root / "proc/vmstat"):
        counts = dict(line.split() for line in _text(path).splitlines())
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0


def cgroup_cores(root: Path = Path("/")) -> float | None:
    """Return the number of cores whose time the group may use; None without a limit."""
    found = []
    for folder in _groups(root, "cpu"):
        # Quota and period; without a limit, the quota is "max" in version 2 and -1 in version 1.
        files = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = " ".join(_text(folder / name) for name in files).split()
        if len(words) == 2 and all(word.isdecimal() for word in words):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _memory_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the groups that have a limit, with the limit in bytes."""
    for folder in _groups(root, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < UNLIMITED:
            yield folder, limit


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's group and of its parents, in both versions."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        mounts = [""] if number == "0" else [controllers, controller]
        mount = next((found for name in mounts if (found := root / "sys/fs/cgroup" / name).is_dir()), None)
        if mount is None:
            continue
        folder = mount / path.lstrip("/")
        if ".." in folder.parts or not folder.is_dir():  # the path is the host's; the container sees its own group
            folder = mount
        yield from (group for group in (folder, *folder.parents) if group.is_relative_to(mount))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def has_cuda(drivers: tuple[str, ...] = DRIVERS) -> bool:
    """True if torch finds a CUDA device."""
    if "torch" not in sys.modules and sys.platform == "linux" and not any(map(os.path.exists, drivers)):
        return False
    import torch

    return torch.cuda.is_available()


@lru_cache
def hardware(device: str) -> str:
    """Return the name of the device, as the device reports it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    model = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def missing_for_compile(device: str) -> str | None:
    """Return what ``torch.compile`` (C++) or triton (C) needs for a device and this machine lacks; None if nothing."""
    if device == "cuda":
        language, variable, names = "C", "CC", ["gcc", "clang"]
    else:
        language, variable, names = "C++", "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    if variable in os.environ:
        names = [os.environ[variable]]
    if not any(map(shutil.which, names)):
        return f"a {language} compiler ({' or '.join(names)})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's header files (python3-dev)"
    if device == "cuda" and find_spec("triton") is None:
        return "the package triton"
    return None


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Keep the memory of freed tensors for the next ones, instead of returning it to the system, in this process.

    Every training step allocates the same large tensors. By default glibc's malloc maps each of them anew, and the
    kernel clears its pages, which takes longer than most operations on them other than matrix products
    (docs/benchmarks.md). The process then keeps its peak of memory.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
