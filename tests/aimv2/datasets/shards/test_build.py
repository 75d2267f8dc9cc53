import json
import os
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.shards.build import build_index
from aimv2.datasets.shards.index import open_index
from aimv2.datasets.shards.records import ShardRecords
from tests.helpers.shards import location, sample, samples_of, write_shards, write_tar
from tests.helpers.web_server import serving


def build(place, workers=1):
    calls = []
    indexed = build_index(place, workers, lambda done, total: calls.append((done, total)))
    return indexed, calls


def content(folder: Path):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def num_read(indexed):
    """Return how many shards were read, as the summary says."""
    return int(re.search(r"read (\d+) shards", " ".join(indexed.notes))[1])


def test_all_samples_are_indexed_in_the_order_of_shards(tmp_path):
    paths = write_shards(tmp_path, num_shards=7)
    place = location(tmp_path)
    indexed, calls = build(place)
    records = ShardRecords(place)
    expected = [one for path in paths for one in samples_of(path)]
    assert indexed.num_samples == len(records) == len(expected)
    assert [records.key(row) for row in range(len(records))] == [key for key, _ in expected]
    assert [records.image(row) for row in range(len(records))] == [members["jpg"] for _, members in expected]
    assert calls == [(5 * done, 35) for done in range(1, 8)]


@pytest.mark.exhaustive
def test_any_number_of_workers_writes_the_same_index(tmp_path):
    write_shards(tmp_path, num_shards=5)
    found = []
    for workers in (1, 2):
        place = replace(location(tmp_path), index=str(tmp_path / f"{workers}.index"))
        build(place, workers)
        found.append(content(place.index))
    assert found[0] == found[1]
    assert sorted(found[0]) == ["index.json", "parts.parquet", "rows.bin", "shards.parquet"]


def test_only_changed_and_new_shards_are_read_again(tmp_path):
    paths = write_shards(tmp_path, num_shards=3)
    place = location(tmp_path)
    assert num_read(build(place)[0]) == 3
    before = content(place.index)
    assert num_read(build(place)[0]) == 0
    assert content(place.index) == before

    write_tar(paths[1], [*sample(100), ("000101.png", b"png")])
    write_tar(tmp_path / "00000-a.tar", sample(200))
    assert num_read(build(place)[0]) == 2
    records = ShardRecords(place)
    keys = [key for path in sorted(tmp_path.glob("*.tar")) for key, _ in samples_of(path)]
    assert [records.key(row) for row in range(len(records))] == keys
    assert records.extensions == ("jpg", "json", "png", "txt")

    os.utime(paths[2], (5, 5))
    assert num_read(build(place)[0]) == 1


def test_a_shard_whose_time_was_set_back_is_read_again(tmp_path):
    path, _ = write_shards(tmp_path, num_shards=2)
    place = location(tmp_path)
    build(place)
    before, status = ShardRecords(place).parts(), path.stat()
    path.write_bytes(path.read_bytes().replace(b"text", b"TEXT"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert num_read(build(place)[0]) == 1
    assert [old == new for old, new in zip(before, ShardRecords(place).parts(), strict=True)] == [False, True]


def test_all_shards_are_read_again_on_request(tmp_path):
    write_shards(tmp_path, num_shards=3)
    place = location(tmp_path)
    build(place)
    assert num_read(build_index(place, 1, lambda *_: None, verify=True)) == 3


def test_columns_of_shards_that_are_gone_are_gone(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b""), ("1.mask", b"")])
    write_tar(tmp_path / "b.tar", [("2.jpg", b"2")])
    build(location(tmp_path))
    (tmp_path / "a.tar").unlink()
    assert num_read(build(location(tmp_path))[0]) == 0
    assert ShardRecords(location(tmp_path)).extensions == ("jpg",)


def test_another_list_of_shards_uses_what_is_known(tmp_path):
    write_shards(tmp_path, num_shards=3)
    build(location(tmp_path, "{00000..00001}.tar"))
    with pytest.raises(UsageError, match="shards has changed since it was written"):
        open_index(location(tmp_path))
    assert num_read(build(location(tmp_path))[0]) == 1


def test_shards_and_index_may_move(tmp_path):
    (tmp_path / "old").mkdir()
    write_shards(tmp_path / "old")
    build(location(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    place = location(tmp_path / "new")
    assert ShardRecords(place).field(7, "txt") == "text 000007"
    assert num_read(build(place)[0]) == 0


def test_a_broken_shard_stops_but_what_was_read_is_kept(tmp_path):
    paths = write_shards(tmp_path, num_shards=4)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:1500])
    place = location(tmp_path)
    with pytest.raises(UsageError, match=r"00001.tar is cut short"):
        build(place)
    assert not Path(place.index).exists()
    paths[1].write_bytes(whole)
    assert num_read(build(place)[0]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(path.name for path in paths), "set.index"]


def test_several_broken_shards_are_named_together(tmp_path):
    for number in range(15):
        (tmp_path / f"{number:02d}.tar").write_bytes(b"no")
    with pytest.raises(
        UsageError, match=r"at least 10 shards cannot be indexed: .*00.tar is not a tar archive; .*09.tar"
    ):
        build(location(tmp_path))
    assert not list(tmp_path.glob("set*"))


def test_an_interrupted_scan_leaves_the_old_index_and_resumes(tmp_path):
    paths = write_shards(tmp_path, num_shards=3)
    place = location(tmp_path)
    build(place)
    before = content(place.index)
    for path in paths:
        os.utime(path, (5, 5))

    def interrupt(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(place, 1, interrupt)
    assert content(place.index) == before
    assert num_read(build(place)[0]) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or "unfinished" in path.name]


def test_the_summary_counts_what_is_odd(tmp_path):
    members = [("1.jpg", b""), ("2.txt", b""), ("3.png", b""), ("3.jpg", b""), ("3.txt", b""), ("1.jpg", b"")]
    write_tar(tmp_path / "a.tar", [*members, ("x.pickle", b"")])
    notes = build(location(tmp_path))[0].notes
    assert "members: jpg 3, png 1, txt 2" in notes[0]
    assert set(notes[3:]) == {
        "ignored: pickled member: 1",
        "odd: sample with the key of an earlier one in its shard: 1",
        "samples without an image: 1",
        "samples with several images, of which the first of jpg, jpeg, png, webp is read: 1",
    }
    assert json.loads((tmp_path / "set.index" / "index.json").read_text())["num_samples"] == 4


def test_images_and_captions_in_different_folders_are_one_sentence(tmp_path):
    members = [
        (f"{folder}/{number}.{end}", b"") for folder, end in (("images", "jpg"), ("texts", "txt")) for number in "12"
    ]
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(UsageError, match="shards: no image has another member of its name beside it"):
        build(location(tmp_path))
    assert not (tmp_path / "set.index").exists()
    write_tar(tmp_path / "a.tar", members[:2])
    assert build(location(tmp_path))[0].num_samples == 2, "images alone may have labels"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    write_shards(tmp_path)
    with pytest.raises(UsageError, match="index='/proc/nowhere' cannot be written"):
        build(replace(location(tmp_path), index="/proc/nowhere/set.index"))


def test_shards_without_samples_are_told(tmp_path):
    write_tar(tmp_path / "a.tar", [])
    with pytest.raises(UsageError, match="there are no samples in"):
        build(location(tmp_path))


def test_shards_behind_urls_are_indexed(tmp_path):
    system = MemoryFileSystem()
    paths = write_shards(tmp_path, num_shards=2)
    for path in paths:
        system.pipe(f"/build/{path.name}", path.read_bytes())
    place = Location(shards=("memory://build/*.tar",), index=str(tmp_path / "remote.index"))
    assert num_read(build(place)[0]) == 2
    assert num_read(build(place)[0]) == 0
    local = location(tmp_path)
    build(local)
    assert [part.checksum for part in open_index(place).parts()] == [
        part.checksum for part in open_index(local).parts()
    ]


def test_a_remote_shard_without_a_version_is_always_read_again(tmp_path):
    """A server that gives neither ETag nor time: nothing tells that a shard of equal size is another one."""
    folder = tmp_path / "shards"
    folder.mkdir()
    first, *_ = write_shards(folder)
    with serving(folder) as server:
        place = Location(shards=(f"{server.url}/{{00000..00002}}.tar",), index=str(tmp_path / "web.index"))
        assert num_read(build(place)[0]) == 3
        assert num_read(build(place)[0]) == 0
        server.gives_versions = False
        build(place)
        write_tar(first, [member for number in range(5) for member in sample(number + 90)])
        assert num_read(build(place)[0]) == 3
        assert ShardRecords(place).field(0, "txt") == "text 000090"


@pytest.mark.exhaustive
def test_a_server_that_does_not_answer_is_said_once(tmp_path):
    with unreadable(tmp_path, 503) as place, pytest.raises(UsageError) as error:
        build(place)
    assert str(error.value) == f"{place.shards[0]} cannot be read: the server answers 503 Service Unavailable"


def test_shards_that_a_server_does_not_have_are_named(tmp_path):
    sentence = r"at least 10 shards cannot be indexed: \S*/00000.tar cannot be read: there is no such file; "
    with unreadable(tmp_path, 404) as place, pytest.raises(UsageError, match=sentence):
        build(place)


@contextmanager
def unreadable(tmp_path, status):
    """Yield the location of twelve shards of a server that answers with the status of an error."""
    with serving(tmp_path) as server:
        server.before = lambda *_: status
        names = tuple(f"{server.url}/{number:05}.tar" for number in range(12))
        yield Location(shards=names, index=str(tmp_path / "web.index"))
