"""What becomes of the memory of freed tensors."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Keep the memory of freed tensors for the next ones, instead of returning it to the system, in this process.

    Every training step allocates the same large tensors. By default glibc's malloc maps each of them anew, and the
    kernel clears its pages, which takes longer than most operations on them other than matrix products
    (docs/benchmarks.md). The process then keeps its peak of memory.

    Returns:
        True if malloc is glibc's and has accepted the settings.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
