from dataclasses import replace

import pytest
import torch

from aimv2.base.hardware import missing_for_compile
from aimv2.training.device import compiles, set_float32_products


@pytest.mark.parametrize(("value", "expected"), [("auto", False), (True, True), (False, False)])
def test_blocks_are_compiled_on_the_cpu_only_if_the_run_says_so(tiny, value, expected):
    assert compiles(replace(tiny, compile=value)) is expected


@pytest.mark.parametrize(("precision", "products"), [("tf32", "high"), ("float32", "highest"), ("bfloat16", "highest")])
def test_float32_products_are_exact_unless_the_run_says_tf32(tiny, precision, products):
    """Also after another run of this process, which has set the opposite."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest" if products == "high" else "high")
        set_float32_products(replace(tiny, device="cuda", precision=precision))
        assert torch.get_float32_matmul_precision() == products
    finally:
        torch.set_float32_matmul_precision(before)


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
