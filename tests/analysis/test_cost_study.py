"""The command line of the cost study."""

import pytest

from analysis.cost_study import main
from analysis.costs.measuring.study import Options

QUICK = ["depth=1", "patches=16", "rounds=2", "batch_rounds=2", "batch=2", "threads=1", "device=cpu", "train_batch=1"]


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
