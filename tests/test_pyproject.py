"""``pyproject.toml`` agrees with the lock and with the code."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aimv2.base.errors import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
]


def test_the_lock_has_nothing_but_names_and_versions():
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []


@pytest.mark.parametrize("requirement", [Requirement(text) for text in REQUIREMENTS], ids=str)
def test_the_lock_satisfies_every_requirement(requirement):
    if requirement.name == PROJECT["name"]:
        return
    locked = {canonicalize_name(name): version for name, version in (line.split("==") for line in LINES)}
    assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), "make lock"


def test_every_package_of_an_extra_is_named_with_it():
    """The names that are imported are those of the packages, but for a few."""
    imported = {"scikit-learn": "sklearn", "pillow": "pil"}
    listed = {"report": set(), "train": {"aiohttp"}}  # of fsspec[http]
    for extra, found in listed.items():
        names = [canonicalize_name(Requirement(text).name) for text in PROJECT["optional-dependencies"][extra]]
        found |= {imported.get(name, name) for name in names if name != PROJECT["name"]}
    assert {extra: {name.lower() for name, of in EXTRAS.items() if of == extra} for extra in listed} == listed


@pytest.mark.parametrize("script", PROJECT["scripts"].values())
def test_every_console_script_is_a_function(script):
    module, _, function = script.partition(":")
    assert callable(getattr(import_module(module), function))
