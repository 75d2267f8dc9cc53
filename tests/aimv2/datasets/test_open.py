import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from aimv2.base import address
from aimv2.base.errors import RunFailedError, UsageError
from aimv2.datasets import open as opening
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.index import DataPart, read_parts, write_parts
from aimv2.datasets.open import (
    RECORDED,
    check,
    content_version,
    difference_of_parts,
    open_location,
    open_records,
    parts_of,
    prepare_location,
    record_content,
)
from tests.helpers import shards as numbered
from tests.helpers.own_data import own_set, own_source, picture, pictured_source, source, write

NUM = 40


def write_pictures(folder):
    for number in range(NUM):
        write(folder / f"class{number % 4}/{number:02}.jpg", picture(number))
        write(folder / f"class{number % 4}/{number:02}.txt", f"caption {number}")


def opened(where, **values):
    description = source(where, folder="pictures", **values)
    prepare_location(description)
    return open_records(description)


def test_indexing_reports_progress_and_what_was_found(tmp_path):
    write_pictures(tmp_path / "pictures")
    seen = []
    description = source(tmp_path, folder="pictures", filters={"folder": {"any_of": ["class1"]}})
    num_samples, notes = prepare_location(description, 2, lambda done, total: seen.append((done, total)))
    assert num_samples == NUM
    assert seen == [(2 * NUM, 2 * NUM), (NUM, NUM), (NUM, NUM)], "files, samples, and fields of samples"
    assert notes[:2] == ["read 80 files", "10 of 40 samples meet the filters"]
    assert notes[2].endswith("of 10 samples are held out")


def write_shards(folder):
    """Write shards of ten samples each; every fourth JSON is broken."""
    folder.mkdir()
    for shard in range(4):
        members = []
        for number in range(10 * shard, 10 * shard + 10):
            meta = "{" if number % 4 == 3 else json.dumps({"score": number / NUM})
            files = {"jpg": picture(number), "txt": b"caption", "json": meta.encode()}
            members += [(f"{number:04}.{extension}", content) for extension, content in files.items()]
        numbered.write_tar(folder / f"{shard:05}.tar", members)


@pytest.mark.parametrize("start", ["", "file://"])
def test_shards_on_disk_and_behind_urls_open_with_their_selection(tmp_path, start):
    write_shards(tmp_path / "shards")
    shards = f"{start}{tmp_path}/shards/{{00000..00003}}.tar"
    description = source(tmp_path, shards=shards, filters={"json.score": {"min": 0.5}})
    _, notes = prepare_location(description, 1)
    kept = [number for number in range(NUM) if number % 4 != 3 and number / NUM >= 0.5]
    assert f"{len(kept)} of {NUM} samples meet the filters" in notes
    assert "10 samples have a broken field, which meets no filter and is not held out" in notes
    records, selected = open_records(description, str(tmp_path / "copies"), 10**6)
    assert selected.kept_N.tolist() == kept
    assert records.image(kept[0]) == picture(kept[0])
    held_out = [place for place, number in enumerate(kept) if address.hash64(f"{number:04}") / 2**64 < 0.2]
    assert selected.held_out_M.tolist() == held_out


def test_a_location_opens_with_the_samples_that_meet_its_filters(tmp_path):
    write_pictures(tmp_path / "pictures")
    text = "test: {folder: pictures, filters: {folder: {any_of: [class3, class0]}}}\nlabel: folder\n"
    location = read_labelled(write(tmp_path / "set.yaml", text)).test
    prepare_location(location)
    records = open_location(location)
    numbers = [*range(0, NUM, 4), *range(3, NUM, 4)]
    keys = [records.key(row) for row in range(len(records))]
    assert keys == [f"class{number % 4}/{number:02}.jpg" for number in numbers]
    assert [records.image(row) for row in range(len(records))] == [picture(number) for number in numbers]
    assert [records.field(row, "folder") for row in (0, 19)] == ["class0", "class3"]
    hash_B = records.key_hashes(np.array([19, 0]))
    assert hash_B.tolist() == [address.hash64("class3/39.jpg"), address.hash64("class0/00.jpg")]
    assert [part.name for part in records.parts()] == ["class0", "class1", "class2", "class3"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"short": ["txt", "text"]}, "short: no sample has the field 'text'; there are folder, txt, json"),
        ({"dense": "jsno.caption"}, r"dense: no sample has the field 'jsno\.caption'; there are folder, txt, json"),
        ({"questions": "qa"}, "questions: no sample has the field 'qa'; there are folder, txt, json"),
        ({"table": "t.csv", "short": "titel"}, "no sample has the field 'titel'; there are image, title, folder"),
    ],
)
def test_a_field_that_no_sample_has_is_refused_with_those_that_exist(tmp_path, values, sentence):
    write_pictures(tmp_path / "pictures")
    write(tmp_path / "pictures/class1/01.json", "{}")
    write(tmp_path / "t.csv", "image,title\nclass0/00.jpg,one\nclass1/01.jpg,two\n")
    with pytest.raises(UsageError, match=sentence):
        prepare_location(source(tmp_path, folder="pictures", held_out={"fraction": 0.5}, **values))


def test_a_field_that_the_first_samples_lack_is_told_when_it_is_indexed(tmp_path):
    write_pictures(tmp_path / "pictures")
    write(tmp_path / "pictures/class1/01.json", "{}")
    description = source(tmp_path, folder="pictures", short="txt", dense="json.caption")
    warnings = [note for note in prepare_location(description)[1] if note.startswith("warning")]
    assert warnings == ["warning: dense: none of the first 40 samples has the field 'json.caption'"]
    assert not any("warning" in note for note in prepare_location(source(tmp_path, folder="pictures"))[1])


def test_a_fingerprint_follows_content_and_description_and_no_paths(tmp_path):
    write_pictures(tmp_path / "a/pictures")
    for member in ("alt.txt", "dense.txt", "json"):
        write(tmp_path / f"a/pictures/class0/00.{member}", "{}")
    shutil.copytree(tmp_path / "a/pictures", tmp_path / "b/pictures")

    def version(name, **values):
        opened(tmp_path / name, **values)
        return content_version(str(tmp_path / name / "source.yaml"))

    first = version("a")
    assert version("b") == version("b", licence="CC0", index="elsewhere") == first
    changes = [
        {"short": {"txt": 2}},
        {"short": ["txt", "alt.txt"]},
        {"short": ["alt.txt", "txt"]},
        {"dense": "dense.txt"},
        {"questions": "json.qa"},
        {"filters": {"folder": {"any_of": ["class0"]}}},
        {"held_out": {"fraction": 0.2}},
        {"transforms": {"flip_probability": 0.5}},
        {"image": "jpg"},
    ]
    found = {version("b", **change) for change in changes}
    assert len(found | {first}) == len(changes) + 1
    write(tmp_path / "b/pictures/class0/00.jpg", picture(1, "PNG"))
    assert version("b") != first


PARTS = [DataPart(f"{number:02}.tar", 10, 1000, f"sum {number}") for number in range(9)]
NEW = DataPart("x.tar", 1, 1, "x")


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        (PARTS, ""),
        (PARTS[:8], "08.tar is missing"),
        (PARTS[:4], "04.tar, 05.tar, 06.tar and 2 more are missing"),
        ([*PARTS, NEW], "x.tar is new"),
        ([PARTS[0]._replace(checksum="other"), *PARTS[1:]], "00.tar is changed"),
        ([part._replace(size=1) for part in PARTS[:2]] + PARTS[2:], "00.tar, 01.tar are changed"),
        ([NEW, PARTS[1]._replace(num_samples=9), *PARTS[2:]], "00.tar is missing; x.tar is new; 01.tar is changed"),
        (PARTS[::-1], "the parts are in another order"),
    ],
)
def test_a_difference_names_the_parts(new, sentence, tmp_path):
    write_parts(tmp_path / "parts.parquet", PARTS)
    assert difference_of_parts(read_parts(tmp_path / "parts.parquet"), new) == sentence


def test_a_field_that_no_sample_has_leaves_an_index_that_is_not_used(tmp_path):
    path = pictured_source(tmp_path / "pictures")
    assert len(open_records(read_source(path))[1].held_out_M)
    text = path.read_text()
    path.write_text(text.replace("short: txt", "short: tyt"))
    with pytest.raises(UsageError, match=r"the fields of captions changed since .* was written; write it again with"):
        open_records(read_source(path))
    with pytest.raises(UsageError, match="no sample has the field 'tyt'"):
        prepare_location(read_source(path))
    with pytest.raises(UsageError, match="has no selection of samples; write it with"):
        open_records(read_source(path))
    path.write_text(text)
    prepare_location(read_source(path))
    assert len(open_records(read_source(path))[1].held_out_M)


def test_shards_have_the_same_version_wherever_they_are(tmp_path):
    (tmp_path / "near").mkdir()
    numbered.write_shards(tmp_path / "near", num_samples=20)
    descriptions = {"near": "near/*.tar", "far": f"file://{tmp_path}/near/*.tar"}
    versions = []
    for name, shards in descriptions.items():
        path = write(tmp_path / f"{name}.yaml", yaml.safe_dump({"shards": shards, "short": "txt"}))
        prepare_location(read_source(path))
        check(str(path))
        versions.append(content_version(str(path)))
    assert versions[0] == versions[1]


@pytest.fixture
def pets(tmp_path):
    """Return the path of a labelled set of two splits."""
    for name in ("train", "test"):
        own_source(tmp_path, name, num_pairs=12)
    return own_set(tmp_path, "pets", "train", "test")


def test_every_split_of_a_labelled_set_is_checked(pets, tmp_path):
    check(pets)
    write(tmp_path / "test/03.json", "{}")
    opening._check.cache_clear()  # as in a new process
    with pytest.raises(UsageError, match=r"test is not as it was indexed .03\.json is changed.; restore it, or run"):
        check(pets)
    for asked in (check, content_version):
        with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
            asked(str(tmp_path / "none.yaml"))


def test_the_version_of_a_labelled_set_is_that_of_its_content_and_label(pets):
    path = Path(pets)
    before = content_version(str(path))
    other = path.with_name("other.yaml")
    other.write_text(path.read_text().replace("json.side", "json.number"))
    for split in (read_labelled(other).train, read_labelled(other).test):
        prepare_location(split)
    assert content_version(str(other)) != before


@pytest.fixture
def config(tiny, tmp_path):
    sources = tuple(str(pictured_source(tmp_path / name, 10)) for name in ("one", "two"))
    return replace(tiny, data=replace(tiny.data, sources=sources, fingerprint="a"))


def test_the_parts_of_all_sources_are_recorded_and_a_changed_description_of_the_same_files_is_refused(config, tmp_path):
    with pytest.raises(RunFailedError, match=r"a description or its content has changed since the plan"):
        record_content(tmp_path, [], config, "b")
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
