"""The recipes of containers: both install alike, with versions of the lock, what the wheel has."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
