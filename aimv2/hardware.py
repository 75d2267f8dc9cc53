"""What a run computes on, as it calls itself. torch is loaded for a GPU alone."""

import os
import platform
from functools import lru_cache
from pathlib import Path


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
