"""The hardware of this machine. torch takes seconds to load, so it is imported only if a GPU driver is present."""

import os
import platform
import re
import sys
from functools import lru_cache
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
