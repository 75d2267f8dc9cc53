import platform
import re
import subprocess
import sys

import pytest

from aimv2.base.hardware import missing_for_compile


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="drivers are looked up on Linux only")
def test_has_cuda_loads_torch_only_where_a_driver_is(tmp_path):
    check = (
        "import sys; from aimv2.base.hardware import has_cuda; "
        "found = has_cuda(sys.argv[1:]); print(found, 'torch' in sys.modules)"
    )
    absent = [sys.executable, "-c", check, str(tmp_path / "absent"), str(tmp_path / "none")]
    assert subprocess.run(absent, check=True, capture_output=True, text=True).stdout == "False False\n"
    present = subprocess.run([*absent, str(tmp_path)], check=True, capture_output=True, text=True).stdout
    assert present.endswith(" True\n")


@pytest.mark.parametrize(("device", "variable", "name"), [("cpu", "CXX", "C[+][+]"), ("cuda", "CC", "C")])
def test_missing_compiler_is_named(monkeypatch, tmp_path, device, variable, name):
    monkeypatch.setenv(variable, "own-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert re.fullmatch(rf"a {name} compiler \(own-compiler\)", missing_for_compile(device))
    compiler = tmp_path / "own-compiler"
    compiler.touch(mode=0o755)
    assert "compiler" not in str(missing_for_compile(device))
    monkeypatch.delenv(variable)
    assert "g" in missing_for_compile(device)


COUNT = """
import resource, sys
import torch
from aimv2.base.hardware import keep_freed_memory

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
