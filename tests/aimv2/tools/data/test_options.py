import pytest

from aimv2.tools.data.command import COMMANDS
from aimv2.tools.data.options import COMMANDS as HELPS
from aimv2.tools.data.options import data_usage, usage_of


def test_every_command_has_a_help():
    assert list(HELPS) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_is_that_of_the_named_command(name):
    assert data_usage([name, "scale=demo"]) == usage_of(name)
    assert usage_of(name).startswith(f"usage: python -m aimv2 data {name}")
    assert f"\n  {name} " in data_usage()
