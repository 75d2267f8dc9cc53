"""The command line of the cost study."""

import pytest
import torch
from aimv2.base.errors import UsageError
from benchmarks.timing import read_options

from aimv2.config.recipes.scales import demo
from analysis.cost_study import Options, main, measure
from analysis.costs.training import Scale

QUICK = ["depth=1", "patches=16", "rounds=2", "batch_rounds=2", "batch=2", "threads=1", "device=cpu", "train_batch=1"]
SCALES = [Scale("demo", "small", demo(), 2)]


def run(arguments):
    return measure(read_options(Options, arguments), arguments, SCALES, lambda text: None)


def test_measurement_says_what_was_measured_where():
    typed = [*QUICK, "models=aimv2,clip", "precisions=bfloat16", "clock=cpu"]
    found = run([*typed, "reports_dir=elsewhere"])
    assert found.command == " ".join(["python analysis/cost_study.py", *typed])
    assert (found.clock, found.depth, found.machine.threads) == ("cpu", 1, 1)
    assert found.machine.packages["torch"] == torch.__version__
    assert set(found.machine.packages) == {"torch", "open_clip_torch"}
    assert [(one.patches, one.precision, one.batch_size) for one in found.encoders] == [
        (16, "bfloat16", 1),
        (16, "bfloat16", 2),
    ]
    assert {one.encoder for setting in found.encoders for one in setting.encoders} == {"aimv2", "clip"}
    assert [one.scale for one in found.training] == ["demo"]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models=clip"], "models=clip has no aimv2"),
        (["models=aimv2,clib"], "unknown model 'clib'. Did you mean 'clip'?"),
        (["precisions=float16"], "unknown precision 'float16'"),
        (["patches=200"], "patches=200 is not the square"),
        (["patches=x"], "patches: "),
        (["batch=1"], "batch: "),
        (["rounds=1"], "rounds: "),
        (["clock=sun"], "clock: "),
        (["round=3"], "unknown key 'round'. Did you mean 'rounds'?"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_refused():
    with pytest.raises(UsageError, match="finds no CUDA device"):
        run(["device=cuda"])


def test_help_prints_the_keys(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {key}=" in printed for key in Options.__dataclass_fields__)


@pytest.mark.exhaustive
def test_command_measures_and_writes_the_report(tmp_path, capsys):
    assert main([*QUICK, f"reports_dir={tmp_path}"]) == 0
    assert (tmp_path / "costs" / "report.md").exists()
    assert (tmp_path / "costs" / "measurements.json").exists()
    assert "encoders, 16 patches, float32, batch 1" in capsys.readouterr().err
