from dataclasses import replace

import pytest
from aimv2.base.errors import RunFailedError
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.open import prepare_location, prepare_source, read_parts
from aimv2.datasets.recorded import FILE, parts_of, record_content

from tests.helpers.own_data import picture, pictured_source, write


@pytest.fixture
def config(tiny, tmp_path):
    sources = tuple(str(pictured_source(tmp_path / name, 10)) for name in ("one", "two"))
    return replace(tiny, data=replace(tiny.data, sources=sources, fingerprint="a"))


def test_the_parts_of_all_sources_are_recorded(config, tmp_path):
    record_content(tmp_path, [], config, "a")
    assert read_parts(tmp_path / FILE) == parts_of(config)
    assert {part.name.partition("/")[0] for part in parts_of(config)} == {"one", "two"}


def test_other_content_is_refused_with_its_difference(config, tmp_path):
    first, second = tmp_path / "0001", tmp_path / "0002"
    for folder in (first, second):
        folder.mkdir()
    record_content(first, [], config, "a")
    (tmp_path / "two" / "03.png").unlink()
    prepare_source(read_source(tmp_path / "two.yaml"))
    with pytest.raises(RunFailedError, match=r"not that of this run: two/.* changed; restore it, or launch again"):
        record_content(second, [tmp_path, first], config, "b")
    assert not (second / FILE).exists()


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
