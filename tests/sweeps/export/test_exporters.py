"""The choice of an exporter."""

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from aimv2.base.errors import UsageError
from sweeps.export.exporters import EXPORTERS, export
from tests.helpers.exported import record


def test_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"unknown tracker 'wandbb'. Did you mean 'wandb'\?"):
        export([record(2)], "wandbb", "project", tmp_path)


@pytest.mark.parametrize("to", EXPORTERS)
def test_missing_package_is_one_sentence_with_the_command(tmp_path, monkeypatch, to):
    monkeypatch.setitem(sys.modules, EXPORTERS[to].package, None)
    with pytest.raises(UsageError, match=rf"to={to} needs the package .*; install it: pip install '") as caught:
        export([record(2)], to, "project", tmp_path)
    assert "\n" not in str(caught.value)


def test_extra_has_the_packages():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extra = {Requirement(text).name.removesuffix("-skinny") for text in project["optional-dependencies"]["exporters"]}
    assert extra == {one.package for one in EXPORTERS.values() if one.install == "aimv2-ablations[exporters]"}
