"""The plug-in that reads data in files, as the core finds it."""

import sys

import pytest

from aimv2.base.errors import UsageError
from aimv2.data import described


def test_the_plug_in_has_every_function_of_the_protocol():
    plugin = described.described()
    names = [name for name in vars(described.DescribedData) if not name.startswith("_")]
    assert len(names) > 5
    assert [name for name in names if not callable(getattr(plugin, name, None))] == []


def test_a_missing_plug_in_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, described.PLUGIN, None)
    with pytest.raises(UsageError, match=r"data in files is read by aimv2\.datasets, which is not installed"):
        described.described()
