import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.arguments import (
    CLONE,
    COMMAND,
    FORM,
    NO_READER,
    as_typed,
    checked,
    defaults_of,
    explain,
    form_of,
    keep_form,
    key_values,
    options_of,
    read_options,
    usage,
)
from aimv2.config.data_config import CHECKED

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("kind", "value"), [(bool, "maybe"), (list[int], "few"), (str, 2024)])
def test_checked_converts_to_the_type_or_names_the_key_of_a_value_of_another(kind, value):
    assert checked("seeds", list[int], ["1", 2]) == [1, 2]
    with pytest.raises(UsageError, match=r"^the_key: Input should be a valid ") as caught:
        checked("the_key", kind, value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "cannot read 'run': arguments have the form key=value"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: run."),
        (["run="], "run= has no value"),
        (["run=x", "run=x"], "run= is given twice; once is allowed"),
    ],
)
def test_key_values_maps_keys_to_values_and_refuses_other_forms(arguments, message):
    assert key_values(["out=a=b", "run=x"], ["run", "out"]) == {"out": "a=b", "run": "x"}
    with pytest.raises(UsageError) as caught:
        key_values(arguments, ["run"])
    assert str(caught.value) == message


def ended_without_a_reader(*command):
    """Run a command whose output goes to a pipe that nothing reads; return its exit status and errors."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        done = subprocess.run([sys.executable, *command], stdout=output, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "command", ["print('x')", "print('x', flush=True)", "print('x' * 10**6)", "Console().print('x')"]
)
def test_a_command_ends_quietly_once_nothing_reads_its_output(command):
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


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Search:
    neighbours: tuple[int, ...] = Field(default=(1, 10), description="numbers of neighbours")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Measure:
    weights: str = Field(description="a finished run", examples=["PATH"])
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where it computes")
    workers: int = Field(default=0, ge=0, description="processes that decode images " * 5)
    crop: float | None = Field(default=None, gt=0, description="share of the image", examples=["0.875"])
    compiles: bool = Field(default=False, description="with compiled blocks")
    knn: Search = Search()


def test_options_are_read_with_their_types_and_groups():
    arguments = ["weights=runs/a=b", "workers=3", "crop=0.5", "compiles=true", "knn.neighbours=[5, 7]"]
    values = {"weights": "runs/a=b", "workers": 3, "crop": 0.5, "compiles": True}
    assert read_options(Measure, arguments) == Measure(**values, knn=Search(neighbours=(5, 7)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "measure needs weights=PATH"),
        (["weights=a", "weights=b"], "weights= is given twice"),
        (["weights=a", "workers"], "cannot read 'workers': arguments have the form key=value"),
        (["weights=a", "worker=1"], "unknown key 'worker'. Did you mean 'workers'?"),
        (["weights=a", "knn.neighbour=1"], "Did you mean 'knn.neighbours'?"),
        (["weights=a", "workers=-1"], "workers: Input should be greater than or equal to 0 (got '-1')"),
        (["weights=a", "device=gpu"], "device: Input should be 'cpu' or 'cuda' (got 'gpu')"),
        (["weights=a", "knn.neighbours=3"], "knn.neighbours is a list: write knn.neighbours=[3]"),
        (["weights=a", "knn.neighbours=[3"], "knn.neighbours=[3 is not a list such as [1,2]"),
        (["weights=a", "workers="], "workers= has no value"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        read_options(Measure, arguments, needs="measure needs")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_shows_each_option_with_its_default_or_an_example():
    lines = usage("measure weights=PATH", "Measure an\nencoder.", Measure).splitlines()
    assert lines[:4] == ["usage: measure weights=PATH", "", "Measure an encoder.", ""]
    assert lines[4] == "  weights=PATH                 a finished run"
    assert lines[5] == "  device=cpu                   where it computes"
    assert lines[6].startswith("  workers=0                    processes that decode")
    assert lines[7].startswith(" " * 31 + "processes")
    assert lines[-4] == "  crop=0.875                   share of the image"
    assert lines[-3] == "  compiles=false               with compiled blocks"
    assert lines[-2] == "  knn.neighbours=[1,10]        numbers of neighbours"
    assert lines[-1] == "  debug=true                   show the traceback of an error"
    assert max(map(len, lines)) <= 119


def test_defaults_and_values_of_a_composed_config():
    assert defaults_of(Search) == {"neighbours": (1, 10)}
    assert defaults_of(Measure)["weights"] is None
    assert options_of(Search, {"neighbours": [2], "other": 1}) == Search(neighbours=(2,))
    with pytest.raises(UsageError, match=r"neighbours.1: Input should be a valid integer"):
        options_of(Search, {"neighbours": [2, "x"]})


@pytest.mark.parametrize(
    ("program", "package", "form"),
    [
        ("sweeps/launch.py", "aimv2", CLONE),
        ("aimv2/__main__.py", "aimv2", CLONE),
        (".venv/bin/aimv2", "aimv2", COMMAND),
        ("Scripts/aimv2.exe", "aimv2", COMMAND),
        ("worker.py", "site-packages/aimv2", COMMAND),
    ],
)
def test_only_scripts_of_a_clone_are_typed_by_their_paths(tmp_path, program, package, form):
    for folder in ("sweeps", "aimv2", "site-packages/aimv2/sweeps"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sweeps/launch.py").touch()
    (tmp_path / "aimv2/sweeps").symlink_to("../sweeps")
    assert form_of(tmp_path / program, tmp_path / package) == form


@pytest.mark.parametrize(
    ("form", "manage", "train"),
    [(CLONE, "python sweeps/manage.py", "python -m aimv2 train"), (COMMAND, "aimv2 manage", "aimv2 train")],
)
def test_processes_print_the_form_of_the_one_that_started_them(monkeypatch, form, manage, train):
    monkeypatch.setenv(FORM, form)
    keep_form()
    assert (as_typed("manage"), as_typed("train")) == (manage, train)
