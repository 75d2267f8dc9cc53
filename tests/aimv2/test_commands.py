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


@pytest.mark.exhaustive
def test_reading_and_planning_need_no_package_of_an_extra(tmp_path):
    """The wheel is tested in an environment without them (tests/test_wheel.py, exhaustive)."""
    code = (
        "import sys; from importlib.machinery import PathFinder; from aimv2.base.errors import EXTRAS\n"
        "class Installed(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name.partition('.')[0] in EXTRAS else super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Installed if one is PathFinder else one for one in sys.meta_path]\n"
        "from aimv2.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    print(main(words.split()), file=sys.stderr)\n"
    )
    words = ["report check prefix-beats-causal --from-records", "sweep sweep=eos dry_run=true", "train"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    needed = "error: python -m aimv2 train needs torch; run: pip install 'aimv2-ablations[train]'"
    assert done.stderr.splitlines() == ["3", "0", needed, "2"]
    assert "prefix-beats-causal is supported" in done.stdout
    assert "20 runs, 20 to do" in done.stdout
