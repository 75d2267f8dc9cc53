"""The command ``bench step``, on the smallest model."""

import json

import pytest
import torch
from aimv2.base.errors import UsageError
from benchmarks.command import bench_command
from benchmarks.step import Result, table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=vit_l"], "unknown model 'vit_l'. Did you mean 'vit_l_shape'? Allowed: demo, tiny, vit_l_shape."),
        (["batch=0"], "batch: Input should be greater than 0"),
        (["precision=half"], "precision: Input should be 'float32' or 'bfloat16' (got 'half')"),
        (["clock=sun"], "clock: Input should be 'wall' or 'cpu' (got 'sun')"),
        (["json=nowhere/step.json"], "json=nowhere/step.json: there is no such folder"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        bench_command(["step", *arguments])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_table_has_a_column_per_result():
    result = Result(
        model="demo",
        precision="float32",
        batch_size=16,
        repeats=10,
        seconds={"data": 0.001, "forward": 0.01, "backward": 0.02, "optimizer": 0.002},
        images_per_second=500,
        useful_flops=2 * 10**9,
        product_flops_per_second=1e11,
        share=0.625,
        share_low=0.5,
        share_high=0.75,
        peak_bytes=3 * 10**9,
        caption_tokens=12.0,
    )
    names, cells = (list(column.cells) for column in table([result], "").columns)
    assert dict(zip(names, cells, strict=True)) == {
        "images / s": "500.0",
        "data, ms": "1.0",
        "forward, ms": "10.0",
        "backward, ms": "20.0",
        "optimizer, ms": "2.0",
        "needed, GFLOP": "2.0",
        "mm, GFLOP / s": "100",
        "share of mm": "62%",
        "95 %": "50% – 75%",
        "memory, GB": "3.00",
    }


def test_compile_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"compile=true needs a C[+][+] compiler \(no-such-compiler\), which this"):
        bench_command(["step", "compile=true"])


@pytest.mark.exhaustive
def test_compiled_step_is_compared_with_an_eager_one(tmp_path, capsys):
    path = tmp_path / "step.json"
    arguments = ["model=demo", "precision=float32", "batch=2", "repeats=2", "threads=1", "compile=true", f"json={path}"]
    assert bench_command(["step", *arguments]) == 0
    assert "eager / compiled" in capsys.readouterr().out
    (result,) = json.loads(path.read_text())["results"]
    median, *interval = result["eager_ratio"]
    assert median > 0
    assert interval == [None, None]


def test_command_prints_a_table_and_writes_json(tmp_path, capsys):
    path = tmp_path / "step.json"
    arguments = ["model=demo", "precision=float32", "batch=2", "repeats=2", "threads=1", "clock=cpu", f"json={path}"]
    assert bench_command(["step", *arguments]) == 0
    assert "demo" in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert f"1 threads, torch {torch.__version__}" in content["machine"]
    (result,) = content["results"]
    assert (result["model"], result["precision"], result["batch_size"]) == ("demo", "float32", 2)
    assert result["seconds"].keys() == {"data", "forward", "backward", "optimizer"}
    assert min(result["share"], result["images_per_second"], result["useful_flops"]) > 0
    assert result["share_low"] is None, "two repeats have no interval"
    assert 1e6 < result["peak_bytes"] < 1e9
