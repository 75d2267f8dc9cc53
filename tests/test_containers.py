"""The recipes of containers: both install alike, with versions of the lock, what the wheel has."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from aimv2.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPES = [ROOT / "docker/Dockerfile", ROOT / "docker/aimv2.def"]


def steps(recipe):
    """Return the commands of a recipe that call pip or us, as words, with the places of files and keys alike."""
    text = recipe.read_text().replace("\\\n", " ")
    found = re.findall(r"(?:RUN |&& |^    )((?:pip|aimv2) [^&\n]*)", text, re.MULTILINE)
    alike = [re.sub(r"/tmp/wheel|/wheel", "WHEEL", line).strip() for line in found]
    alike = [re.sub(r"/tmp/constraints|/source/constraints", "LOCK", line) for line in alike]
    return [re.sub(r"\$\{TORCH_INDEX\}|\{\{ TORCH_INDEX \}\}", "INDEX", line) for line in alike]


def test_both_recipes_install_alike():
    docker, apptainer = map(steps, RECIPES)
    assert docker == apptainer
    expected = ["pip wheel", "pip install", "pip install", "aimv2 --version"]
    assert [" ".join(line.split()[:2]) for line in docker] == expected


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_extras_python_and_torch_of_a_recipe_exist(recipe):
    text = recipe.read_text()
    extras = re.search(r"whl\)\[([\w,]+)\]", text)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert re.search(r"python:(3\.12|\$\{PYTHON\})-slim", text)
    assert "https://download.pytorch.org/whl/cpu" in text
    assert len(re.findall(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)) == 1
    assert all(shlex.split(line) for line in steps(recipe))


def test_the_entry_point_is_the_command():
    assert 'ENTRYPOINT ["aimv2"]' in RECIPES[0].read_text()
    assert 'exec aimv2 "$@"' in RECIPES[1].read_text()
    assert "sweep" in COMMANDS
