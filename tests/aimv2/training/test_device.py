import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aimv2.memory.machine import missing_for_compile
from aimv2.objectives.build import build
from aimv2.training.device import autocast, compiles, hold_half_, resident_bytes, set_float32_products


def test_auto_compiles_on_a_gpu_where_the_compiler_is_and_never_on_the_cpu(tiny, monkeypatch):
    assert [compiles(replace(tiny, compile=value)) for value in ("auto", True, False)] == [False, True, False]
    config = replace(tiny, device="cuda")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiles(config) is False
    monkeypatch.delenv("CC")
    assert compiles(config) is (missing_for_compile("cuda") is None)


@pytest.mark.parametrize(("precision", "products"), [("tf32", "high"), ("float32", "highest"), ("bfloat16", "highest")])
def test_float32_products_are_exact_unless_the_run_says_tf32(tiny, precision, products):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest" if products == "high" else "high")
        set_float32_products(replace(tiny, device="cuda", precision=precision))
        assert torch.get_float32_matmul_precision() == products
    finally:
        torch.set_float32_matmul_precision(before)


@torch.no_grad()
def test_a_network_whose_blocks_are_held_in_half_computes_what_autocast_does(tiny, images, tokens):
    """Bitwise; gains, embeddings and heads stay float32. The CPU computes what is held as on a GPU."""
    config = replace(tiny, precision="bfloat16")
    model, half = build(config), build(config)
    hold_half_(half, config)
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}, "a CPU holds float32"
    hold_half_(half, replace(config, device="cuda"))
    kinds = {name: weight.dtype for name, weight in half.named_parameters()}
    assert kinds["encoder.blocks.0.attn.qkv.weight"] == kinds["decoder.blocks.0.ffn.down.weight"] == torch.bfloat16
    assert kinds["encoder.blocks.0.norm1.weight"] == kinds["decoder.text_head.weight"] == torch.float32
    prefix_len_B, text_len_B = torch.full((6,), 3), torch.full((6,), 12)
    with autocast(config):
        found, expected = (one(images, tokens, prefix_len_B, text_len_B) for one in (half, model))
    assert all(torch.equal(*parts) for parts in zip(found, expected, strict=True))


def test_memory_is_what_the_kernel_counts(tmp_path):
    found = resident_bytes()
    if found is None:
        pytest.skip("this system has no /proc")
    assert resident_bytes(tmp_path / "none") is None
    listed = int(re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    assert found == pytest.approx(listed, rel=0.1)
