"""What a run computes on. torch, which takes seconds to load, is asked where there may be a GPU."""

import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

# What drivers of a GPU make on Linux: NVIDIA's, Jetson's, WSL's, AMD's.
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl", "/dev/dxg", "/dev/kfd")


def has_cuda(drivers: tuple[str, ...] = DRIVERS) -> bool:
    """Whether torch sees a CUDA device here."""
    if "torch" not in sys.modules and sys.platform == "linux" and not any(map(os.path.exists, drivers)):
        return False
    import torch

    return torch.cuda.is_available()


@lru_cache
def hardware(device: str) -> str:
    """The device's name, as it gives it."""
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
