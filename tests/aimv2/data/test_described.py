"""The plug-in that reads data in files, as the core finds it."""

import sys

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.data import described
from tests.helpers.own_data import own_source


def test_the_plug_in_has_every_function_of_the_protocol():
    plugin = described.described()
    names = [name for name in vars(described.DescribedData) if not name.startswith("_")]
    assert len(names) > 5
    assert [name for name in names if not callable(getattr(plugin, name, None))] == []


def test_a_missing_plug_in_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, described.PLUGIN, None)
    with pytest.raises(UsageError, match=r"data in files is read by aimv2\.datasets, which is not installed"):
        described.described()


@pytest.fixture
def sources(tmp_path):
    """Descriptions of two sources with captions of both kinds, and of one with short captions only."""
    both = [own_source(tmp_path, name, num_pairs=10) for name in ("one", "two")]
    return *both, own_source(tmp_path, "alt", num_pairs=10, kinds=["short"])


@pytest.mark.parametrize(
    ("which", "values", "expected"),
    [
        ([0], {"dense_fraction": 0.9}, "captions: 90 % dense, 10 % short (data.dense_fraction=0.9)"),
        ([0, 1], {}, "captions: 33 % dense, 67 % short (data.dense_fraction=0.33)"),
        ([0, 2], {}, "captions: one 33 % dense, 67 % short (data.dense_fraction=0.33)"),
        (
            [0, 1],
            {"dense_fractions": (0.125, 1)},
            "captions: one 12.5 % dense, 87.5 % short; two 100 % dense, 0 % short (data.dense_fractions=[0.125,1])",
        ),
        ([0, 1], {"weights": (0, 1)}, "captions: two 33 % dense, 67 % short (data.dense_fraction=0.33)"),
        ([2], {}, ""),
        ([0, 2], {"weights": (0, 1)}, ""),
    ],
)
def test_shares_of_captions_are_told_of_sources_that_have_both_kinds(sources, which, values, expected):
    config = DataConfig(sources=tuple(sources[number] for number in which), **values)
    assert described.shares_of_captions(config) == expected


def test_built_in_sources_have_no_shares_to_tell():
    assert described.shares_of_captions(DataConfig()) == ""
