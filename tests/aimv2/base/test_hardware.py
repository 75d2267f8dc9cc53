import os
import re
import subprocess
import sys

import pytest

from aimv2.base.hardware import hardware, missing_for_compile


def test_hardware_of_the_cpu_has_its_number_of_cores():
    model, _, cores = hardware("cpu").rpartition(", ")
    assert model
    assert cores == f"{os.cpu_count()} cores"


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
