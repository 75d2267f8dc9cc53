"""Options of ``cost``, ``data``, ``evaluate`` and ``weights``."""

import pytest

from aimv2.cli import main
from aimv2.config.arguments import read_options
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.tools.data_index import data_command
from aimv2.tools.options import DATA_COMMANDS, EvaluateOptions, PlanOptions, cost_usage, weights_usage

NEEDED = ["weights=w", "data=d.yaml"]


def test_values_are_read_and_the_rest_has_its_default():
    given = ["methods=[probe,knn]", "probe.learning_rates=[1e-3,2]", "probe.epochs=7"]
    options = read_options(EvaluateOptions, [*NEEDED, *given])
    assert (options.methods, options.probe.learning_rates, options.probe.epochs) == (("probe", "knn"), (1e-3, 2.0), 7)
    assert options.crop is None
    for ranks in ("1,8", "[1,8]"):
        assert read_options(PlanOptions, [f"ranks={ranks}"]).ranks == (1, 8)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("crop=1.5", "crop: Input should be less than or equal to 1"),
        ("methods=[prob]", "methods.0: Input should be 'probe', 'linear'"),
        ("methods=probe", "methods is a list: write methods=[probe]"),
        ("probe.epoch=3", "unknown key 'probe.epoch'. Did you mean 'probe.epochs'?"),
        ("probe.warmup_epochs=100", "warmup_epochs=100 must be less than epochs=100"),
        ("probe.learning_rates=[0]", "probe.learning_rates.0: Input should be greater than 0"),
        ("device=tpu", "device: Input should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(argument, message, refusal):
    assert message in refusal(read_options, EvaluateOptions, [*NEEDED, argument])


def test_default_grid_is_the_papers():
    options = EvaluateOptions(weights="", data="").probe
    assert options.learning_rates == (5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3)
    assert (options.weight_decays, options.epochs, options.batch_size) == ((0.05, 0.1), 100, 512)
    assert set(options.learning_rates) <= set(ProbeConfig().learning_rates)


def test_helps_have_the_options_of_their_command():
    text = cost_usage()
    assert text.startswith("usage: python -m aimv2 cost [key=value ...]\n")
    assert all(key in text for key in ("ranks=1,8,64", "gpu=80GB", "vit_3b"))
    for arguments, actions in (([], ("import", "export")), (["export"], ("export",)), (["fly"], ("import", "export"))):
        lines = [line for line in weights_usage(arguments).splitlines() if line.startswith("usage:")]
        assert [line.split()[5] for line in lines] == list(actions)


def test_data_prints_the_help_of_its_commands(capsys):
    for name in DATA_COMMANDS:
        assert main(["data", name, "--help"]) == 0
        assert f"usage: python -m aimv2 data {name}" in capsys.readouterr().out
    assert data_command(["--help"]) == 0
    assert data_command([]) == data_command(["write"]) == 2
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in DATA_COMMANDS)
    assert main(["data", "indx"]) == 2
    assert "unknown data command 'indx'. Did you mean 'index'?" in capsys.readouterr().err
