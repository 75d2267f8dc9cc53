"""The table of commands: each exists, and its help loads nothing that takes long."""

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from aimv2.commands import COMMANDS, usage, usage_of

SLOW = ("torch", "pandas", "scipy", "pyarrow", "polars", "matplotlib", "hydra", "optuna", "submitit", "rich")
LINES = [[name, "--help"] for name in COMMANDS] + [
    *(["--help"], ["--version"], ["report", "check", "--help"], ["data", "index", "--help"]),
    *(["complete", "sweep", "sweep="], ["complete", "train", "model."], ["completion", "bash"]),
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function(name):
    assert callable(resolve_name(COMMANDS[name].call))
    assert usage_of(name).startswith("usage: ")
    assert f"\n  {name} " in usage()


def test_helps_and_completions_load_nothing_that_takes_long():
    code = (
        "import sys, io, contextlib; from aimv2.cli import main\n"
        f"for words in {LINES!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main(words) == 0, words\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('aimv2.ablations.studies.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
