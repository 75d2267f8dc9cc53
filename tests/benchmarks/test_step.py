"""Both steps that the benchmark compares have the same losses and gradients, and it counts what they consist of."""

import platform
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from aimv2.spec.objectives import objective
from benchmarks.step_reference import (
    ATTENTION,
    COPIES,
    ELEMENTWISE,
    OPTIMIZER,
    PRODUCTS,
    REST,
    TRANSPOSED,
    Operations,
    Remote,
    main,
)
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from aimv2.memory import setup_of
from aimv2.model.network import build
from aimv2.training.engine import Engine
from tests.helpers.reference import ReferenceStep


@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [
        (torch.float64, "float32", 1e-9),
        (torch.float32, "float32", 1e-5),
        (torch.float32, "bfloat16", 0.03),
    ],
)
def test_steps_have_the_same_losses_and_gradients(tiny, batch, dtype, precision, tolerance):
    config = replace(tiny, precision=precision)
    batch = batch._replace(image=batch.image.to(dtype))
    model = build(config).to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.1 * torch.randn(len(weight), generator=torch.Generator().manual_seed(0))
    found = {}
    for name in ("ours", "reference"):
        model.zero_grad()
        if name == "ours":
            engine = Engine(objective("aimv2").load()(model, config), config, setup_of(config))
            terms = {key: float(term) for key, term in engine.backward(batch).items()}
        else:
            terms = ReferenceStep(model, lambda: batch, config).backward(batch)
        found[name] = terms, {key: weight.grad.clone() for key, weight in model.named_parameters()}
    (ours, gradients), (expected, expected_gradients) = found.values()
    assert ours == pytest.approx(expected, rel=tolerance)
    for name, gradient in expected_gradients.items():
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert error <= tolerance, f"gradient of {name}: relative error {error:.2e}"


def test_operations_are_counted_as_the_profiler_counts_them(tiny, batch):
    step = ReferenceStep(build(tiny), lambda: batch, tiny)
    step()  # makes the optimizer's moments
    with Operations() as operations:
        step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step()
    expected = {event.key.removeprefix("aten::"): event.count for event in recorded.key_averages()}
    names = ("mm", "convolution", "silu", "rsqrt", "embedding_dense_backward", "_fused_adamw_")
    assert {name: operations.calls[name] for name in names} == {name: expected[name] for name in names}
    assert all(seconds > 0 for seconds in operations.seconds.values())
    assert operations.seconds.keys() == {PRODUCTS, TRANSPOSED, ATTENTION, ELEMENTWISE, COPIES, OPTIMIZER}
    with FlopCounterMode(display=False) as counter:  # which leaves out attention on the CPU
        step()
    assert operations.flops[PRODUCTS] + operations.flops[TRANSPOSED] == counter.get_total_flops()
    assert operations.flops[TRANSPOSED] == pytest.approx(counter.get_total_flops() / 3, rel=0.1), (
        "a third is of weights"
    )


@pytest.mark.parametrize(
    "argument", ["model=vit", "precision=fp16", "repeats=many", "repeats=0", "threads=0", "operations=1x", "clock=cpu"]
)
def test_a_wrong_argument_is_one_sentence_that_names_it(capsys, argument):
    assert main([argument]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert argument.partition("=")[0] in printed.err


@pytest.mark.exhaustive
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_each_process_has_its_own_malloc():
    """Oracle: the kernel's count of pages that it maps for steps after the first ones."""
    faults = {}
    for keeps_memory in (True, False):
        with closing(Remote(make_counter, keeps_memory=keeps_memory, threads=1)) as remote:
            counter = Path(f"/proc/{remote.pid}/stat")
            for _ in range(3):
                remote()
            before = int(counter.read_text().rpartition(")")[2].split()[7])
            remote()
            faults[keeps_memory] = int(counter.read_text().rpartition(")")[2].split()[7]) - before
    assert faults[True] < 16 < 32 <= faults[False]


def make_counter(folder):
    """Return a step that allocates 64 MB."""
    return partial(torch.ones, 2**24)


@pytest.mark.exhaustive
def test_the_benchmark_prints_its_tables(capsys):
    arguments = ["model=demo", "precision=float32", "batch=2", "repeats=2", "threads=1"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == [
        "reference, malloc as ours",
        "reference, malloc by default",
        "ours, malloc by default",
    ]
    assert main([*arguments, "operations=true"]) == 0
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in capsys.readouterr().out.splitlines() if line}
    assert {PRODUCTS, TRANSPOSED, ATTENTION, ELEMENTWISE, COPIES, OPTIMIZER, REST, "GFLOP"} < rows.keys()
