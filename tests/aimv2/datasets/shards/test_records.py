import contextlib
import json
import os
import pickle
import random
import tarfile
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from aimv2.base.address import hash64
from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.shards.build import build_index
from aimv2.datasets.shards.records import ShardRecords, block_rows_of
from tests.helpers.shards import indexed, location, sample, samples_of, write_shards, write_tar


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_records_are_what_webdataset_reads(kind, tmp_path):
    members = [member for number in range(20) for member in sample(number)]
    members += [("d/" * 40 + "k.JPG", b"1"), ("d/" * 40 + "k.txt", "ü".encode())]
    if kind != tarfile.USTAR_FORMAT:
        members += [("n" * 9000 + ".jpg", b"2"), ("n" * 9000 + ".txt", b""), ("ü.jpg", b"3"), ("ü.txt", b"4")]
    path = write_tar(tmp_path / "a.tar", members, kind=kind)
    records = indexed(location(tmp_path))
    expected = samples_of(path)
    assert len(records) == len(expected)
    for row, (key, found) in enumerate(expected):
        assert records.key(row) == key
        assert records.image(row) == found["jpg"]
        assert records.field(row, "txt") == found["txt"].decode()
        assert records.field(row, "json.caption") == (json.loads(found["json"])["caption"] if "json" in found else None)
    hashes = records.key_hashes(np.arange(len(records)))
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [hash64(key) for key, _ in expected]


def test_fields_of_json_members(shards):
    _, records = shards
    assert records.field(3, "json.caption") == "json 000003"
    assert records.field(3, "json.meta.width") == 3
    assert records.field(3, "json.several") == ["a 000003", "b 000003"]
    for missing in ("json.nothing", "json.caption.deeper", "json.meta.nothing.at.all", "nothing", "txt.key"):
        assert records.field(3, missing) is None if missing != "txt.key" else True
    assert json.loads(records.field(3, "json"))["meta"] == {"width": 3}


def test_extensions_with_dots_and_capitals_are_fields(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b"i"), ("1.Meta.JSON", b'{"a": {"b": 1}}'), ("1.seg.png", b"s")])
    records = indexed(location(tmp_path))
    assert records.field(0, "meta.json.a.b") == 1
    assert records.field(0, "Meta.JSON.a") == {"b": 1}
    assert indexed(location(tmp_path, image="seg.png")).image(0) == b"s"


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'"\xff"', b"1" * 10_000, b""])
def test_broken_json_is_a_bad_sample(content, tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b"i"), ("1.json", content)])
    with pytest.raises(BadSampleError, match=r"broken json: 1.json: ") as error:
        indexed(location(tmp_path)).field(0, "json.caption")
    assert error.value.reason == "broken json"


def test_text_that_is_not_utf8_is_a_bad_sample(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b"i"), ("1.txt", b"\xff")])
    with pytest.raises(BadSampleError, match=r"missing caption: 1.txt is not UTF-8"):
        indexed(location(tmp_path)).field(0, "txt")


def test_the_image_is_the_member_that_is_there_or_the_one_named(tmp_path):
    members = [("1.png", b"p"), ("1.jpg", b"j"), ("1.txt", b""), ("2.webp", b"w"), ("3.txt", b""), ("4.jpeg", b"e")]
    write_tar(tmp_path / "a.tar", members)
    records = indexed(location(tmp_path))
    assert [records.image(row) for row in (0, 1, 3)] == [b"j", b"w", b"e"]
    with pytest.raises(BadSampleError, match="missing image: 3"):
        records.image(2)
    assert indexed(location(tmp_path, image="png")).image(0) == b"p"
    with pytest.raises(UsageError, match="the shards have no member tif; set image to one of their members: jpeg, jpg"):
        ShardRecords(location(tmp_path, image="tif"))


def test_no_row_beyond_the_ends(shards):
    _, records = shards
    for row in (-1, 15):
        with pytest.raises(IndexError):
            records.image(row)


@pytest.mark.parametrize(
    ("num_samples", "block_rows"),
    [([10_000] * 5 + [77], 70_000), ([5], 65_535), ([100_000] * 2, 65_536), ([65_537, 1], 65_536)],
)
def test_blocks_are_whole_shards_where_possible(num_samples, block_rows):
    assert block_rows_of(np.array(num_samples)) == block_rows


def change(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:-2000])
    elif how == "longer":
        path.write_bytes(content + bytes(512))
    elif how == "other samples":
        write_tar(path, [member for number in range(50, 55) for member in sample(number)])
        assert path.stat().st_size == len(content)
    elif how == "other images":
        path.write_bytes(content.replace(b"image", b"IMAGE"))
        os.utime(path, (5, 5))  # a clock may be coarser than the test is fast
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "unreadable":
        path.unlink()
        path.symlink_to(path)


@pytest.mark.parametrize("read", ["key", "image", "txt"])
@pytest.mark.parametrize(
    "how", ["missing", "truncated", "longer", "other samples", "other images", "a folder", "unreadable"]
)
def test_a_changed_shard_is_one_error_that_names_it(how, read, shards):
    paths, records = shards
    records.image(0)
    change(paths[1], how)
    with pytest.raises(RunFailedError, match=r"the shard .*00001.tar (has changed|cannot be read)") as error:
        records.field(7, read) if read == "txt" else getattr(records, read)(7)
    assert error.value.cause == "data"
    assert "run python -m aimv2 data index" in str(error.value)
    assert records.image(0)  # the others are read


def test_other_content_of_equal_length_and_time_is_not_read(shards):
    paths, records = shards
    status = paths[1].stat()
    paths[1].write_bytes(paths[1].read_bytes().replace(b"text 000007", b"TEXT 000007"))
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(RunFailedError, match=r"00001.tar has changed since .*the member txt of sample 7 has another"):
        records.field(7, "txt")
    assert records.field(6, "txt") == "text 000006"


def test_a_copy_of_a_shard_is_told_and_keeps_its_part_when_it_is_indexed_again(shards, tmp_path):
    paths, records = shards
    before = records.parts()
    os.utime(paths[1], (5, 5))
    with pytest.raises(RunFailedError, match=r"00001.tar has changed since it was indexed \(its time is another\)"):
        records.image(7)
    again = indexed(location(tmp_path))
    assert again.image(7) == samples_of(paths[1])[2][1]["jpg"]
    assert again.parts() == before


def test_a_shard_that_changes_while_it_is_open_gives_no_wrong_sample(shards):
    paths, records = shards
    records.image(6)
    with paths[1].open("r+b") as file:
        other = write_tar(
            paths[1].with_suffix(".new"), [member for number in range(50, 55) for member in sample(number)]
        )
        file.write(other.read_bytes())
    with pytest.raises(RunFailedError, match="is not where it was"):
        records.image(7)


class Texts:
    """A dataset of the texts of records."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, row):
        return self.records.field(row, "txt")


def test_records_are_read_in_loader_processes(tmp_path):
    write_shards(tmp_path)
    records = indexed_for_processes(tmp_path)
    expected = [f"text {row:06d}" for row in range(15)]
    assert records.field(0, "txt") == expected[0]  # open before the process starts
    assert list(DataLoader(Texts(records), batch_size=None, num_workers=1)) == expected
    copy = pickle.loads(pickle.dumps(records))
    assert [copy.field(row, "txt") for row in range(15)] == expected


def indexed_for_processes(folder):
    build_index(location(folder), 1, lambda *_: None)
    return ShardRecords(location(folder))


def test_records_of_another_index_are_refused_after_pickling(tmp_path):
    paths = write_shards(tmp_path)
    state = pickle.dumps(indexed_for_processes(tmp_path))
    write_tar(paths[0], sample(90))
    indexed_for_processes(tmp_path)
    with pytest.raises(RunFailedError, match="was replaced"):
        pickle.loads(state)


def test_members_that_are_apart_are_read(tmp_path):
    members = [member for number in range(30) for member in sample(number)]
    random.Random(1).shuffle(members)
    write_tar(tmp_path / "a.tar", members)
    records = indexed(location(tmp_path))
    content = dict(members)
    for row in range(len(records)):
        key = records.key(row)
        assert records.image(row) == content[f"{key}.jpg"]
        assert records.field(row, "txt") == content[f"{key}.txt"].decode()
    assert len(records) == 30


# Mutations


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Flip bytes, cut, or copy, move, swap, insert and delete blocks."""
    changed = bytearray(content)
    num_blocks = len(changed) // 512
    for _ in range(draw.randint(1, 4)):
        first, second = (512 * draw.randrange(num_blocks) for _ in range(2))
        length = 512 * draw.choice([1, 1, 2, 3, 8])
        piece = bytes(changed[first : first + length])
        match draw.randrange(7):
            case 0 | 1:
                changed[draw.randrange(len(changed))] ^= draw.randint(1, 255)
            case 2:
                del changed[draw.randrange(len(changed)) :]
                break
            case 3:
                changed[second : second + length] = piece
            case 4:
                changed[second:second] = piece
            case 5:
                del changed[first : first + length]
            case 6:
                changed[second : second + len(piece)], changed[first : first + length] = (
                    piece,
                    changed[second : second + len(piece)],
                )
        if len(changed) < 1024:
            break
    return bytes(changed)


def by_name(path):
    """Return, for each name, the contents after every intact header of a file in a shard, wherever it is."""
    content = path.read_bytes()
    found = {}
    for start in range(0, len(content) - 511, 512):
        with contextlib.suppress(tarfile.HeaderError):
            info = tarfile.TarInfo.frombuf(content[start : start + 512], "utf-8", "surrogateescape")
            if info.isreg():
                found.setdefault(info.name, []).append(content[start + 512 : start + 512 + info.size])
    return found


def read_all(records, path, counts):
    """Read everything; each member must be that of the row's key by the names in the shard."""
    in_shard = by_name(path)
    for row in range(len(records)):
        try:
            key = records.key(row)
            assert hash64(key) == int(records.key_hashes(np.array([row]))[0])
            assert records.image(row) in in_shard[f"{key}.jpg"]
            text = records.field(row, "txt")
            assert text is None or text.encode() in in_shard[f"{key}.txt"]
            records.field(row, "json.caption")
            counts["read"] += 1
        except BadSampleError:
            counts["bad sample"] += 1
        except RunFailedError:
            counts["run failed"] += 1


def check_mutations(folder, seeds):
    write_shards(folder, num_shards=1, num_samples=12)
    path = folder / "00000.tar"
    whole = path.read_bytes()
    counts, status = Counter(), path.stat()
    build_index(location(folder), 1, lambda *_: None)
    for seed in seeds:
        path.write_bytes(mutate(whole, random.Random(seed)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a broken disk would leave it
        records = ShardRecords(location(folder), sleep=lambda _: None)  # indexed before the mutation
        read_all(records, path, counts)
        try:
            after = indexed(Location(shards=(str(path),), index=str(folder / "after.index")))
        except UsageError:
            counts["not indexed"] += 1
        else:
            read_all(after, path, counts)
    return counts


@pytest.mark.exhaustive
def test_no_mutation_of_a_shard_gives_a_wrong_pair(tmp_path):
    counts = check_mutations(tmp_path, range(400))
    assert all(counts[outcome] > 66 for outcome in ("read", "run failed", "not indexed"))
