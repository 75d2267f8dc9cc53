"""Data in files as the core sees it."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.data_config import DataConfig
from aimv2.data.provenance import version
from aimv2.datasets import plugin
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.index import read_parts
from aimv2.datasets.open import prepare_location
from aimv2.datasets.plugin import RECORDED, parts_of, record_content
from tests.helpers.own_data import own_set, own_source, picture, pictured_source, write
from tests.helpers.shards import write_shards


def test_a_source_has_pairs_a_version_kinds_of_captions_and_a_licence(tmp_path, cache_dir):
    path = own_source(tmp_path, "birds", num_pairs=20, licence="CC BY 4.0")
    sides = plugin.open_source(path, DataConfig(sources=(path,), cache_dir=str(cache_dir)))
    assert len(sides.train) + len(sides.held_out) == 20
    assert version(path) == plugin.source_version(path)
    described = read_source(Path(path))
    assert plugin.caption_kinds(path) == tuple(kind for kind in ("short", "dense") if getattr(described, kind))
    assert plugin.source_licence(path) == "CC BY 4.0"
    assert not plugin.has_questions(path)
    write(Path(path), Path(path).read_text() + "questions: json.qa\n")
    assert plugin.has_questions(path)


def test_shards_have_the_same_version_wherever_they_are(tmp_path):
    (tmp_path / "near").mkdir()
    write_shards(tmp_path / "near", num_samples=20)
    descriptions = {"near": "near/*.tar", "far": f"file://{tmp_path}/near/*.tar"}
    versions = []
    for name, shards in descriptions.items():
        path = write(tmp_path / f"{name}.yaml", yaml.safe_dump({"shards": shards, "short": "txt"}))
        prepare_location(read_source(path))
        plugin.check(str(path))
        versions.append(plugin.source_version(str(path)))
    assert versions[0] == versions[1]


def test_data_that_are_indexed_again_have_another_version_in_the_same_process(tmp_path):
    path = own_source(tmp_path, "birds", num_pairs=20)
    before = plugin.source_version(path)
    write(tmp_path / "birds/03.txt", "another caption")
    prepare_location(read_source(Path(path)))
    assert plugin.source_version(path) != before


def test_every_split_of_a_labelled_set_is_checked(tmp_path):
    for name in ("train", "test"):
        own_source(tmp_path, name, num_pairs=12)
    path = own_set(tmp_path, "pets", "train", "test")
    plugin.check(path)
    write(tmp_path / "test/03.json", "{}")
    plugin._check.cache_clear()  # as in a new process
    with pytest.raises(UsageError, match=r"test is not as it was indexed .03\.json is changed.; restore it, or run"):
        plugin.check(path)


def test_a_description_that_is_missing_is_one_sentence(tmp_path):
    for asked in (plugin.check, plugin.source_version, plugin.set_version, plugin.caption_kinds, plugin.set_licence):
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


@pytest.fixture
def config(tiny, tmp_path):
    sources = tuple(str(pictured_source(tmp_path / name, 10)) for name in ("one", "two"))
    return replace(tiny, data=replace(tiny.data, sources=sources, fingerprint="a"))


def test_the_parts_of_all_sources_are_recorded(config, tmp_path):
    record_content(tmp_path, [], config, "a")
    assert read_parts(tmp_path / RECORDED) == parts_of(config)
    assert {part.name.partition("/")[0] for part in parts_of(config)} == {"one", "two"}


def test_other_content_is_refused_with_its_difference(config, tmp_path):
    first, second = tmp_path / "0001", tmp_path / "0002"
    for folder in (first, second):
        folder.mkdir()
    record_content(first, [], config, "a")
    (tmp_path / "two" / "03.png").unlink()
    prepare_location(read_source(tmp_path / "two.yaml"))
    with pytest.raises(RunFailedError, match=r"not that of this run: two/.* changed; restore it, or launch again"):
        record_content(second, [tmp_path, first], config, "b")
    assert not (second / RECORDED).exists()


def test_the_parts_of_a_labelled_set_are_recorded_beside_built_in_data(tiny, tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"set/{split}/cat/1.jpg", picture(1))
    path = write(tmp_path / "pets.yaml", "train: {folder: set/train}\ntest: {folder: set/test}\nlabel: folder\n")
    described = read_labelled(path)
    for place in (described.train, described.test):
        prepare_location(place)
    config = replace(tiny, evaluation=replace(tiny.evaluation, sets=(str(path),)))
    assert {part.name.partition("/")[0] for part in parts_of(config)} == {"pets train", "pets test"}


def test_a_changed_description_is_refused_even_if_the_files_are_the_same(config, tmp_path):
    with pytest.raises(RunFailedError, match=r"a description or its content has changed since the plan"):
        record_content(tmp_path, [], config, "b")
