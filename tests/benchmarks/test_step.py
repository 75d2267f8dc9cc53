"""The benchmark of training steps, on the smallest model."""

import pytest

from aimv2.base.errors import UsageError
from benchmarks.step import StepOptions, measure


def test_compile_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"compile=true needs a C[+][+] compiler \(no-such-compiler\), which this"):
        list(measure(StepOptions(compile=True, device="cpu")))


def test_a_row_has_the_parts_of_a_step_its_rate_and_its_memory():
    (table,) = measure(StepOptions(scale="demo", precision="float32", batch=2, repeats=2, clock="cpu"))
    (row,) = table.rows
    assert (row["model"], row["precision"]) == ("demo", "float32")
    parts = sum(row[f"{part}, ms"] for part in ("forward", "backward", "optimizer"))
    assert row["images / s"] == pytest.approx(2000 / parts, rel=0.5), "medians of parts and of their sum differ"
    rate = row["needed, GFLOP"] * row["images / s"] / 2
    assert row["share of its rate"].median == pytest.approx(rate / row["product, GFLOP / s"], rel=0.5)
    assert 1e-3 < row["memory, GB"] < 0.1


@pytest.mark.exhaustive
def test_compiled_step_is_compared_with_an_eager_one():
    (table,) = measure(StepOptions(scale="demo", precision="float32", batch=2, repeats=2, compile=True))
    assert table.rows[0]["eager / compiled"].n == 2
