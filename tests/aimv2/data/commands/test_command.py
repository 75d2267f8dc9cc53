import pytest
from aimv2.base.errors import UsageError
from aimv2.tools.data.command import COMMANDS, data_command

from aimv2.cli import main


def test_help_names_every_command(capsys):
    assert data_command(["--help"]) == 0
    assert data_command([]) == 2
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_an_unknown_command_is_told():
    with pytest.raises(UsageError, match=r"unknown data command 'indx'\. Did you mean 'index'\?"):
        data_command(["indx"])


def test_the_command_line_has_the_commands(capsys):
    assert main(["data", "index", "--help"]) == 0
    assert "usage: python -m aimv2 data index" in capsys.readouterr().out
    assert main(["data", "nothing"]) == 2
    assert "unknown data command 'nothing'" in capsys.readouterr().err
