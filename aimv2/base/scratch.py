"""Arrays that may be larger than the memory."""

import math
import os
import tempfile

import numpy as np
from numpy.typing import DTypeLike

IN_MEMORY = 2**30  # bytes, the most of an array that is not in a file


def scratch(shape: tuple[int, ...], dtype: DTypeLike, in_memory: int = IN_MEMORY) -> np.ndarray:
    """Return an array with undefined values: in memory, or mapped from a temporary file if it is large.

    The kernel keeps the pages of a file in memory while there is room, and needs none of it. The file has no name, so
    it is gone with the array or the process. ``TMPDIR`` says where it is.

    Args:
        in_memory: bytes above which an array is in a file.

    Raises:
        OSError: the disk has no room for the file.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= in_memory:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # without it, a disk that is full later ends the process (SIGBUS)
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "r+", shape=shape)
