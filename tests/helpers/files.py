"""Disks that refuse to write."""

import resource
from contextlib import contextmanager


@contextmanager
def files_limited_to(num_bytes):
    """Make the kernel refuse to write beyond this size in any file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
