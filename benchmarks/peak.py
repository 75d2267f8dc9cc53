"""The peak memory of a call, by torch's own allocations."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # before the first profile: it prints two lines for each otherwise


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Return the largest number of bytes that the call's tensors take at a time, beyond what is allocated before.

    On the CPU it sums the allocations and releases that torch's profiler records, on CUDA it reads the allocator's own
    peak. Both are exact and do not depend on other processes. Scratch memory that kernels' libraries allocate by
    themselves is not seen.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        recorded.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "[memory]"]
    taken = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):  # stable: the order of equal times is the file's
        taken += event["args"]["Bytes"]
        peak = max(peak, taken)
    return peak
