import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from aimv2.base.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_a_tensor_takes_the_memory_of_a_freed_one():
    """Oracle: the kernel's count of pages that it maps; a tensor of 64 MB has 16384 of 4 kB, or 32 huge ones."""
    counts = {
        name: int(
            subprocess.run([sys.executable, "-c", COUNT, name], capture_output=True, text=True, check=True).stdout
        )
        for name in ("default", "keep")
    }
    assert counts["default"] >= 32
    assert counts["keep"] < 16
