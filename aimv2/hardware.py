"""The hardware of this machine. torch takes seconds to load, so it is imported only if a GPU driver is present."""

import os
import platform
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
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = (
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        )
        model = next(names, model)
    return f"{model}, {os.cpu_count()} cores"
