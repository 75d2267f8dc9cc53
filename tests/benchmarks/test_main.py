"""The command: each benchmark runs and prints its tables. Nothing here depends on times."""

from pathlib import Path

import pytest
import torch

from aimv2.base.errors import UsageError
from benchmarks.__main__ import BENCHMARKS, benchmarks_command

QUICK = "precisions=[float32] repeats=2 threads=1 device=cpu"


@pytest.fixture(autouse=True)
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_are_listed_and_their_help_has_the_options(capsys, name):
    assert benchmarks_command([]) == 0
    assert f"\n  {name} " in capsys.readouterr().out
    assert benchmarks_command([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m benchmarks {name} [key=value ...]\n")
    assert "\n  repeats=10 " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("decoder", "unknown benchmark 'decoder'. Did you mean 'encoder'?"),
        ("encoder dept=2", "unknown key 'dept'. Did you mean 'depth'?"),
        ("encoder device=tpu", "device: Input should be 'auto', 'cpu' or 'cuda' (got 'tpu')"),
        ("encoder patches=[200]", "patches=200 is not the square of a number of patches per side"),
        ("step scale=dem", "unknown scale 'dem'. Did you mean 'demo'?"),
        ("step objective=aimv3", "unknown objective 'aimv3'. Did you mean 'aimv2'?"),
        ("step precisions=[half]", "precisions.0: Input should be 'float32' or 'bfloat16' (got 'half')"),
        ("data folder=/proc/nowhere", "folder='/proc/nowhere' cannot be written"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        benchmarks_command(arguments.split())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("encoder", f"depth=1 patches=[16] {QUICK}", ["ours", "timm", "clip", "siglip", "dinov2", "torch.mm"]),
        ("step", f"scale=demo batch_size=2 {QUICK}", ["demo"]),
        ("data", "batches=1 batch_size=8 repeats=2 max_workers=1", ["ours", "webdataset"] * 2),
    ],
)
def test_each_benchmark_prints_its_command_machine_and_tables(tmp_path, capsys, name, arguments, rows):
    if name == "data":
        arguments += f" folder={tmp_path}"
    assert benchmarks_command([name, *arguments.split()]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"`python -m benchmarks {name} ")
    assert "torch 2" in first
    table = [line for line in lines if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]][: len(rows)] == rows
    assert not list(Path(tmp_path).iterdir()), "temporary files are deleted"
