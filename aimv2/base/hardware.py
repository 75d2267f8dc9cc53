"""The hardware of this machine. torch takes seconds to load, so it is imported only if a GPU driver is present."""

import ctypes
import os
import platform
import re
import shutil
import sys
import sysconfig
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

# Files that GPU drivers create on Linux: NVIDIA, Jetson, WSL, AMD.
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl", "/dev/dxg", "/dev/kfd")


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
