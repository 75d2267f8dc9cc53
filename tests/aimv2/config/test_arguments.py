import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.arguments import NO_READER, checked, explain, key_values
from aimv2.config.data_config import CHECKED

ROOT = Path(__file__).parents[3]


def test_checked_converts_to_the_type():
    assert checked("seeds", list[int], ["1", 2]) == [1, 2]


@pytest.mark.parametrize(("kind", "value"), [(bool, "maybe"), (list[int], "few"), (str, 2024)])
def test_checked_names_the_key_of_a_value_of_another_type(kind, value):
    with pytest.raises(UsageError, match=r"^the_key: Input should be a valid ") as caught:
        checked("the_key", kind, value)
    assert "\n" not in str(caught.value)


def test_key_values_maps_keys_to_values():
    assert key_values(["out=a=b", "run=x"], ["run", "out"]) == {"out": "a=b", "run": "x"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "cannot read 'run': arguments have the form key=value"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: run."),
        (["run="], "run= has no value"),
        (["run=x", "run=x"], "run= is given twice; once is allowed"),
    ],
)
def test_key_values_refuses_other_forms(arguments, message):
    with pytest.raises(UsageError) as caught:
        key_values(arguments, ["run"])
    assert str(caught.value) == message


def ended_without_a_reader(*command):
    """Run a command whose output goes to a pipe that nothing reads; return its exit status and errors."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, *command], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    finally:
        os.close(writer)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "command",
    [
        "print('x')",
        "print('x', flush=True)",
        "print('x' * 10**6)",
        "Console().print('x')",
    ],
)
def test_a_command_ends_quietly_once_nothing_reads_its_output(command):
    """``status | head`` printed "Broken pipe"."""
    program = (
        "import sys\nfrom rich.console import Console\nfrom aimv2.config.arguments import guarded, script_of\n"
        f"sys.exit(script_of(lambda words: guarded(lambda words: {command} or 0, words)))"
    )
    assert ended_without_a_reader("-c", program) == (NO_READER, "")


@pytest.mark.parametrize("module", ["aimv2", "aimv2.sweeps.manage"])
def test_help_ends_quietly_once_nothing_reads_it(module):
    assert ended_without_a_reader("-m", module, "--help") == (NO_READER, "")


def test_another_broken_pipe_is_an_error():
    program = (
        "import sys\nfrom aimv2.config.arguments import guarded, script_of\n"
        "def lose(words):\n    raise BrokenPipeError(32, 'Broken pipe', 'socket')\n"
        "sys.exit(script_of(lambda words: guarded(lose, words)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 32] Broken pipe: 'socket'\n")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Part:
    width: int = 1
    kind: Literal["wide", "deep"] = "wide"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Whole:
    part: Part = Part()
    sizes: tuple[int, ...] = (1,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"part": {"wdth": 2}}, "unknown key 'part.wdth'. Did you mean 'part.width'? Allowed: part.kind, part.width."),
        ({"part": {"width": "x"}}, "part.width: Input should be a valid integer (got 'x')"),
        ({"part": {"kind": "wied"}}, "part.kind: Input should be 'wide' or 'deep' (got 'wied'). Did you mean 'wide'?"),
        ({"sizes": 3}, "sizes is a list: write sizes=[3]"),
    ],
)
def test_a_refused_value_is_one_sentence(values, message):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Whole).validate_python(values)
    assert str(explain(caught.value, Whole)) == message
