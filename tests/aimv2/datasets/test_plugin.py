"""Data in files as the core sees it."""

from pathlib import Path

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.data.sources.version import version
from aimv2.datasets import plugin
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.open import prepare_location
from tests.helpers.own_data import own_set, own_source


def test_a_source_has_pairs_a_version_kinds_of_captions_and_a_licence(tmp_path, cache_dir):
    path = own_source(tmp_path, "birds", num_pairs=20, licence="CC BY 4.0")
    sides = plugin.open_source(path, DataConfig(sources=(path,), cache_dir=str(cache_dir)))
    assert len(sides.train) + len(sides.held_out) == 20
    assert version(path) == plugin.source_version(path)
    described = read_source(Path(path))
    assert plugin.caption_kinds(path) == tuple(kind for kind in ("short", "dense") if getattr(described, kind))
    assert plugin.source_licence(path) == "CC BY 4.0"


def test_a_description_that_is_missing_is_one_sentence(tmp_path):
    for asked in (plugin.source_version, plugin.set_version, plugin.caption_kinds, plugin.set_licence):
        with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
            asked(str(tmp_path / "none.yaml"))


def test_the_version_of_a_labelled_set_is_that_of_its_content_and_label(tmp_path):
    for name in ("train", "test"):
        own_source(tmp_path, name, num_pairs=12)
    path = Path(own_set(tmp_path, "pets", "train", "test", licence="CC0"))
    before = plugin.set_version(str(path))
    assert plugin.set_licence(str(path)) == "CC0"
    other = path.with_name("other.yaml")
    other.write_text(path.read_text().replace("json.side", "json.number"))
    for split in (read_labelled(other).train, read_labelled(other).test):
        prepare_location(split)
    assert plugin.set_version(str(other)) != before
