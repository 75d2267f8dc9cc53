import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aimv2.base.hardware import missing_for_compile
from aimv2.training.device import compiles, memory_bytes


@pytest.mark.parametrize(("value", "expected"), [("auto", False), (True, True), (False, False)])
def test_blocks_are_compiled_on_the_cpu_only_if_the_run_says_so(tiny, value, expected):
    assert compiles(replace(tiny, compile=value)) is expected


def test_flex_attention_needs_compiled_blocks(tiny):
    assert compiles(replace(tiny, attention_kernel="flex")) is True
    with pytest.raises(ValueError, match="attention_kernel=flex needs compiled blocks: use compile=auto or"):
        replace(tiny, attention_kernel="flex", compile=False)


def test_auto_compiles_on_a_gpu_where_the_compiler_is(tiny, monkeypatch):
    config = replace(tiny, device="cuda")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiles(config) is False
    monkeypatch.delenv("CC")
    assert compiles(config) is (missing_for_compile("cuda") is None)


def test_memory_is_what_the_kernel_counts(tmp_path):
    device = torch.device("cpu")
    found = memory_bytes(device)
    if found is None:
        pytest.skip("this system has no /proc")
    assert memory_bytes(device, tmp_path / "none") is None
    listed = int(re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    assert found == pytest.approx(listed, rel=0.1)
