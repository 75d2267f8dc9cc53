import pytest

from aimv2.cli import main
from aimv2.tools.data.command import COMMANDS, data_command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_its_usage(command, capsys):
    assert main(["data", command, "--help"]) == 0
    assert f"usage: python -m aimv2 data {command}" in capsys.readouterr().out


def test_an_unknown_command_is_told(capsys):
    assert main(["data", "indx"]) == 2
    assert "unknown data command 'indx'. Did you mean 'index'?" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    assert data_command(["--help"]) == 0
    assert data_command([]) == 2
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
