"""Indexes: their format, what is kept of an interrupted one, and where they may be."""

import dataclasses
import errno
import os
import shlex
import tracemalloc
from pathlib import Path

import pytest

from aimv2.base.address import hash64
from aimv2.base.errors import UsageError
from aimv2.datasets.index import (
    MISSING,
    ROWS,
    Content,
    DataPart,
    Index,
    IndexedFile,
    Record,
    Stamp,
    command,
    read_parts,
    stamp_at,
    unfinished,
    write_parts,
    writing,
)
from tests.helpers.marks import exhaustive
from tests.helpers.own_data import source, write
from tests.helpers.shards import build, location, write_shards

PARTS = [DataPart("a", 3, 100, "x"), DataPart("ö/b", 0, 2**40, "y")]
FILES = [IndexedFile("one", Stamp(1, 2, 3), "version", "00ff"), IndexedFile("gone", Stamp(-1, 0, 0))]


def records_of(num):
    text = Content(1, 0, 0, 0)
    contents = [{"image": Content(0, 2**40 + number, 2**32 - 1, number), "txt": text} for number in range(num)]
    return [Record(f"ö {number}", content, {"n": number}) for number, content in enumerate(contents)]


def written(place, text="new", num=3):
    with writing(place) as writer:
        for file in FILES:
            writer.add_file(file)
        writer.add(records_of(num))
        writer.parts += PARTS
        writer.facts["text"] = text
    return place


@pytest.mark.parametrize("num", [0, 1, ROWS - 1, ROWS, ROWS + 1, exhaustive(5 * ROWS)])
def test_an_index_has_what_was_written(tmp_path, num):
    opened = Index(written(source(tmp_path, folder="a"), num=num))
    assert len(opened) == num
    for row, record in enumerate(records_of(num)):
        assert (opened.key(row), opened.contents(row), opened.fields_of(row)) == record
    assert opened.hash_N.tolist() == [hash64(record.key) for record in records_of(num)]
    assert opened.parts == PARTS
    assert opened.read_files() == FILES
    assert opened.stamps() == {"one": Stamp(1, 2, 3)}
    batches = list(opened.batches(num // 3, num))
    keys = [key for batch in batches for key in batch.rows.column("key").to_pylist()]
    assert keys == [record.key for record in records_of(num)[num // 3 :]]
    assert [int(found) for batch in batches for found in batch.hash_B] == opened.hash_N[num // 3 :].tolist()
    for row in (-1, num):
        with pytest.raises(IndexError):
            opened.key(row)


@pytest.mark.exhaustive
def test_an_index_opens_without_reading_its_samples(tmp_path):
    place = written(source(tmp_path, folder="a"), num=20 * ROWS)
    tracemalloc.start()
    try:
        opened = Index(place)
        assert opened.key(20 * ROWS - 1) == f"ö {20 * ROWS - 1}"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000  # bytes; the index has over 10 million


def test_parts_are_read_as_they_were_written(tmp_path):
    write_parts(tmp_path / "parts.parquet", PARTS)
    assert read_parts(tmp_path / "parts.parquet") == PARTS
    for content in (None, b"PAR1 and no more"):
        (tmp_path / "parts.parquet").unlink()
        if content:
            write(tmp_path / "parts.parquet", content)
        with pytest.raises(UsageError, match=r"parts\.parquet cannot be read"):
            read_parts(tmp_path / "parts.parquet")
        write(tmp_path / "parts.parquet", b"")


def text_of(place):
    return Index(place).facts["text"]


def test_a_new_index_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    place = written(source(tmp_path, folder="a"), "old")
    written(unfinished(place), "half")
    assert text_of(place) == "old", "it stays until the new one is complete"
    written(place)
    assert text_of(place) == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.index", "source.yaml"]


@pytest.mark.parametrize("num_read", [0, 1])
def test_after_an_error_the_old_index_is_still_there_and_what_was_read_is_kept(tmp_path, num_read):
    place = written(source(tmp_path, folder="a"), "old")

    def interrupted():
        with writing(place) as writer:
            writer.num_read, writer.facts["text"] = num_read, "half"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert text_of(place) == "old"
    assert sorted(os.listdir(tmp_path)) == ["source.index", *["source.index.unfinished"] * num_read, "source.yaml"]
    assert not num_read or text_of(unfinished(place)) == "half"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", [0, 1])  # the old index is moved aside, and then the new one to its place
def test_if_the_new_index_cannot_be_moved_to_its_place_the_old_one_stays(tmp_path, monkeypatch, failing, error):
    place = written(source(tmp_path, folder="a"), "old")
    done = []

    def rename(self, target, real=Path.rename):
        if "parts" not in self.name:
            done.append(target)
        if len(done) == failing + 1:
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(type(error) if isinstance(error, KeyboardInterrupt) else UsageError) as raised:
        written(place)
    if isinstance(error, OSError):
        assert str(raised.value) == f"the index {tmp_path}/source.index cannot be replaced (I/O error)"
    assert text_of(place) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.index", "source.yaml"]


@pytest.mark.parametrize(
    ("files", "place", "sentence"),
    [
        ({"photos/a.jpg": "precious"}, "photos", "photos exists and is no index"),
        ({"file": ""}, "file/index", r"file/index cannot be written \(Not a directory\); set index"),
    ],
)
def test_a_place_that_cannot_be_an_index_is_one_sentence(tmp_path, files, place, sentence):
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(UsageError, match=sentence):
        written(source(tmp_path, folder="a", index=place))
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_a_missing_index_names_the_command_with_the_description(tmp_path):
    with pytest.raises(UsageError) as error:
        Index(source(tmp_path, folder="a"))
    assert str(error.value) == (
        f"there is no index at {tmp_path}/source.index; write it with python -m aimv2 data index {tmp_path}/source.yaml"
    )
    assert command(source(tmp_path, folder="a", index="elsewhere")) == "python -m aimv2 data index FILE.yaml"
    folder = tmp_path / "my data; $HOME's"
    *start, path = shlex.split(command(source(folder, folder="a")))
    assert (start, path) == (["python", "-m", "aimv2", "data", "index"], f"{folder}/source.yaml")


@pytest.mark.parametrize(
    ("before", "now", "key"),
    [
        ({"folder": "a"}, {"shards": ("a.tar",)}, "folder"),
        ({"folder": "a"}, {"folder": "a", "table": "t.csv"}, "table"),
        ({"folder": "a"}, {"folder": "a", "image": "png"}, "image"),
        ({"shards": "{0..1}.tar"}, {"shards": "{0..2}.tar"}, "shards"),
    ],
)
def test_an_index_of_another_location_is_refused(tmp_path, before, now, key):
    written(source(tmp_path, **before))
    with pytest.raises(UsageError, match=f"was made for another {key} than the description has now"):
        Index(source(tmp_path, **now))


def test_data_may_move_together_with_its_index_and_the_index_alone(tmp_path):
    (tmp_path / "old").mkdir()
    write_shards(tmp_path / "old")
    build(location(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    place = location(tmp_path / "new")
    assert Index(place).path(1) == str(tmp_path / "new/00001.tar")
    (tmp_path / "new/set.index").rename(tmp_path / "alone")
    assert len(Index(dataclasses.replace(place, index=str(tmp_path / "alone")))) == 15


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", b"{"),
        ("index.json", b'{"version": 2}'),
        ("index.json", b"[]"),
        *((name, content) for name in ("records.arrow", "files.arrow", "hashes.bin") for content in (None, b"x" * 100)),
        ("parts.parquet", None),
    ],
)
def test_a_broken_index_is_one_sentence(tmp_path, name, content):
    write_shards(tmp_path)
    build(location(tmp_path))
    path = tmp_path / "set.index" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match=r"write it (again )?with python -m aimv2 data index"):
        Index(location(tmp_path))
    build(location(tmp_path))
    assert len(Index(location(tmp_path))) == 15


def test_a_stamp_is_the_same_until_size_or_time_change(tmp_path):
    file = write(tmp_path / "a", "one")
    os.utime(file, ns=(5, 7))
    first = stamp_at(file)
    assert first[:2] == (3, 7)
    file.chmod(0o600)
    assert stamp_at(file).is_same(first)
    os.utime(file, ns=(5, 8))
    assert not stamp_at(file).is_same(first)
    write(file, "four")
    os.utime(file, ns=(5, 7))
    assert not stamp_at(file).is_same(first)
    assert stamp_at(tmp_path / "none") == stamp_at(file / "none") == MISSING
