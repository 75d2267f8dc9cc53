"""Scans of tar shards, beside webdataset and tarfile, and their index."""

import gzip
import io
import lzma
import os
import random
import re
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from aimv2.base.errors import UsageError
from aimv2.datasets import remote
from aimv2.datasets.description import Location
from aimv2.datasets.records import Records
from aimv2.datasets.tar_shards import MAX_EXTENDED, MAX_EXTENSIONS, block_rows_of, scan, split
from tests.helpers.marks import exhaustive
from tests.helpers.programs import skip_without
from tests.helpers.shards import build, indexed, location, no_wait, sample, samples_of, write_shards, write_tar
from tests.helpers.web_server import serving

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}


def found_samples(path):
    """Return keys and members of the samples that a scan finds, by reading at its positions."""
    (batch,) = scan(str(path)).batches
    content, samples = path.read_bytes(), []
    for row in batch.rows.to_pylist():
        members = {}
        for each in row["contents"]:
            members[each["name"]] = content[each["offset"] : each["offset"] + each["length"]]
            assert zlib.crc32(members[each["name"]]) == each["checksum"]
        samples.append((row["key"], members))
    return samples


def tar_bytes(files, kind=tarfile.PAX_FORMAT, mtime=1.5):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, size in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, mtime
            tar.addfile(info, io.BytesIO(random.Random(size).randbytes(size)))
    return stream.getvalue()


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_samples_are_those_of_webdataset(kind, tmp_path):
    members = [member for number in range(50) for member in sample(number)[: 1 + number % 3]]
    members += [("dir.x/deep/k1.JPG", b"1"), ("dir.x/deep/k1.seg.png", b""), ("dir.x/other/k1.jpg", b"3")]
    members += [("without", b""), ("__meta__", b"m"), ("__meta__/a.txt", b"m"), (".hidden", b""), ("dir.x/.a.b", b"")]
    members += [("000003.txt", b"a key again, later"), ("000003.jpg", b"another")]
    path = write_tar(tmp_path / "a.tar", members, kind=kind)
    assert found_samples(path) == samples_of(path)


@given(seed=st.integers(0, 10_000), num_samples=st.integers(2, 12))
def test_members_in_any_order_are_joined_by_their_keys(tmp_path_factory, seed, num_samples):
    draw = random.Random(seed)
    members = [member for number in range(num_samples) for member in sample(number)[: draw.randint(1, 3)]]
    draw.shuffle(members)
    path = write_tar(tmp_path_factory.mktemp("plain") / "a.tar", members)
    expected = {}
    for name, content in members:
        key, extension = name.split(".")
        expected.setdefault(key, {})[extension] = content
    assert found_samples(path) == list(expected.items())


@pytest.mark.parametrize("kind", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_a_folder_that_tar_packed_has_whole_samples(tmp_path, kind):
    skip_without(shutil.which("tar"), "no tar")
    (tmp_path / "pictures").mkdir()
    for number in range(100):
        for name, content in sample(number, px=1):
            (tmp_path / "pictures" / f"{number * 7919 % 1000:03}.{name.partition('.')[2]}").write_bytes(content)
    (tmp_path / "pictures/link.jpg").symlink_to("000.jpg")
    os.link(tmp_path / "pictures/000.jpg", tmp_path / "pictures/zzz.jpg")
    command = ["tar", "cf", tmp_path / "a.tar", f"--format={kind}", "-C", tmp_path, "--sort=inode", "pictures"]
    subprocess.run(command, check=True)
    expected = {
        f"pictures/{path.stem}": {end: path.with_suffix(f".{end}").read_bytes() for end in ("jpg", "txt", "json")}
        for path in (tmp_path / "pictures").glob("*.txt")
    }
    found = dict(found_samples(tmp_path / "a.tar"))
    (found.pop("pictures/zzz", None) or found["pictures/000"]).setdefault("jpg", b"one of both is a link to the other")
    del expected["pictures/000"]
    assert {key: found[key] for key in expected} == expected
    assert scan(str(tmp_path / "a.tar")).notes["ignored: link"] == 2


def test_members_that_are_apart_beside_keys_that_repeat_are_one_sentence(tmp_path):
    apart = [("1.jpg", b"a"), ("2.jpg", b"b"), ("1.txt", b"of 1"), ("2.txt", b"of 2")]
    path = write_tar(tmp_path / "a.tar", [*apart, ("3.jpg", b"c"), ("4.jpg", b"d"), ("3.jpg", b"another")])
    with pytest.raises(UsageError, match=r"a\.tar has members of samples that are apart .* tar --sort=name"):
        scan(str(path))


@given(st.text(st.sampled_from("ab./_\n")))
def test_keys_and_extensions_are_those_of_webdataset(name):
    key, extension = base_plus_ext(name)
    assert split(name) == ((key, extension.lower()) if extension else None)


def test_ignored_members_and_odd_keys_are_counted(tmp_path):
    names = ["a.jpg", "a.pyd", "a.pickle", "a.cls.pkl", "/etc/b.jpg", "../c.jpg", "d\n/../e.jpg", "f", "__m__", "a.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("a.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("b.jpg", "a.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    found = found_samples(tmp_path / "a.tar")
    assert [(key, list(members)) for key, members in found] == [(key, ["jpg"]) for key in "aba"]
    assert scan(str(tmp_path / "a.tar")).notes == {
        "ignored: pickled member": 3,
        "ignored: path that leaves the archive": 3,
        "ignored: name without a key or an extension": 1,
        "ignored: member about the shard": 1,
        "ignored: second member of a sample with the same extension": 1,
        "ignored: link": 2,
        "ignored: device or pipe": 2,
        "ignored: folder": 1,
        "odd: sample with the key of an earlier one in its shard": 1,
    }


def header(kind, size, content=b""):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def with_pax(pax_headers):
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = pax_headers
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def with_global(pax_headers):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers=pax_headers) as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    return stream.getvalue()


FILE = tarfile.TarInfo("a.txt").tobuf() + bytes(1024)
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"short", "is not a tar archive"),
        (b"<html>" * 1000, "is not a tar archive"),
        (gzip.compress(tar_bytes([("a", 5)]) + os.urandom(2000)), r"is compressed \(gzip\); decompress it"),
        (lzma.compress(tar_bytes([("a", 5)]) + os.urandom(2000)), r"is compressed \(xz\)"),
        (tar_bytes([("a.b", 5000)])[:3000], "is cut short: it ends at byte 3,000 within a member"),
        (tar_bytes([("a", 512)])[:2048], "is cut short: it ends at byte 2,048 without the mark of its end"),
        (tar_bytes([("a", 5)]) + b"x" * 700, r"has a broken header at byte 2,048, or another archive after its end"),
        (with_pax(SPARSE), "is not a tar archive|sparse"),
        (with_pax(SPARSE | {"size": "512"})[:-1024] + b"9\n".ljust(9999, b"x"), ""),
        (with_pax({"GNU.sparse.map": "0,9", "GNU.sparse.size": "9"}), "has sparse members"),
        (with_pax({"size": "-5000"}), ""),
        (with_pax({"size": "9" * 30}), ""),
        (header(tarfile.XHDTYPE, 9, b"0 path=a\n") + FILE, ""),
        (with_global({"path": "x"}), "has a global header"),
        *((header(kind, MAX_EXTENDED + 1) + FILE, "has a header of") for kind in (tarfile.GNUTYPE_LONGNAME, b"x")),
        (header(tarfile.GNUTYPE_LONGNAME, 2**60) + FILE, "has a header of"),
        (header(tarfile.XHDTYPE, 0) * 3000 + FILE, ""),
    ],
)
def test_what_is_no_whole_archive_is_one_sentence(content, message, tmp_path):
    path = tmp_path / "a.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"^{re.escape(str(path))} ({message})"):
        scan(str(path))


def test_a_global_header_without_a_name_is_read_and_names_that_are_not_utf8_are_escaped(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a\udcff.jpg", b"image")], kind=tarfile.GNU_FORMAT)
    assert found_samples(path) == [("a\\xff", {"jpg": b"image"})]
    (tmp_path / "a.tar").write_bytes(with_global({"comment": "x"}))
    assert found_samples(tmp_path / "a.tar") == [("a", {"txt": b""})]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_an_archive_cut_anywhere_is_an_error(kind, size, tmp_path):
    content = tar_bytes([("a.b", 100), ("b.c", size)], kind, 1)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        end = tar.getmembers()[-1].offset_data + -(-size // 512) * 512
    path = tmp_path / "a.tar"
    for length in range(0, end + 512, 128):
        path.write_bytes(content[:length])
        with pytest.raises(UsageError):
            scan(str(path))
    path.write_bytes(content[: end + 512])
    assert len(found_samples(path)) == 2  # one block of zeros marks the end


@given(
    position=st.integers(0, 511).filter(lambda at: not 148 <= at < 156),
    flip=st.integers(1, 255),
    block=st.sampled_from([0, 2, 3, 5]),
)
def test_a_changed_byte_in_any_header_is_an_error(position, flip, block, tmp_path_factory):
    content = bytearray(tar_bytes([("a.b", 0), ("b.c", 0)]))  # each: pax header, its content, header
    content[512 * block + position] ^= flip
    path = tmp_path_factory.getbasetemp() / "flipped.tar"
    path.write_bytes(bytes(content))
    with pytest.raises(UsageError):
        scan(str(path))


def test_keys_with_dots_are_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"a.{number}.jpg", b"") for number in range(MAX_EXTENSIONS + 1)])
    with pytest.raises(UsageError, match=f"more than {MAX_EXTENSIONS} kinds of members, such as 'a.64.jpg'.*no dots"):
        scan(str(path))


def test_faults_of_a_server_are_retried(tmp_path):
    content = write_tar(tmp_path / "a.tar", sample(0)).read_bytes()
    MemoryFileSystem().pipe("/scan/a.tar", content)
    left = [RuntimeError("the client's own error"), ConnectionResetError(), TimeoutError()]

    class Flaky(MemoryFileSystem):
        protocol = "flaky"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("flaky://", "memory://"))

        def open(self, *args, **kwargs):
            if left:
                raise left.pop()
            return super().open(*args, **kwargs)

    fsspec.register_implementation("flaky", Flaky, clobber=True)
    waits = []
    patience = remote.Patience(waits.append)
    assert scan("flaky://scan/a.tar", patience=patience).file.checksum == f"{zlib.crc32(content):08x}"
    assert len(waits) == 3
    left += [RuntimeError("the client's own error")] * 9
    with pytest.raises(UsageError, match=r"flaky://scan/a\.tar cannot be read: RuntimeError: the client's own error"):
        scan("flaky://scan/a.tar", patience=patience)


@pytest.mark.parametrize(
    ("num_samples", "block_rows"),
    [([10_000] * 5 + [77], 70_000), ([5], 65_535), ([100_000] * 2, 65_536), ([65_537, 1], 65_536)],
)
def test_blocks_are_whole_shards_where_possible(num_samples, block_rows):
    assert block_rows_of(np.array(num_samples)) == block_rows


# The index of all shards


def content_of(place):
    return {path.name: path.read_bytes() for path in Path(place.index).iterdir()}


def num_read(place, **arguments):
    """Index shards, and return how many were read, as the notes say."""
    notes = " ".join(build(place, **arguments))
    unread = re.search(r"not read again, because size and times have not changed: (\d+) shards", notes)
    return int(re.search(r"shards: (\d+),", notes)[1]) - (int(unread[1]) if unread else 0)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_all_samples_are_indexed_in_the_order_of_shards(tmp_path, workers):
    paths = write_shards(tmp_path, num_shards=7)
    calls = []
    build(location(tmp_path), workers, on_progress=lambda done, total: calls.append((done, total)))
    records = Records(location(tmp_path))
    expected = [each for path in paths for each in samples_of(path)]
    assert [records.key(row) for row in range(len(records))] == [key for key, _ in expected]
    assert [records.image(row) for row in range(len(records))] == [members["jpg"] for _, members in expected]
    assert calls == [(5 * done, 35) for done in range(1, 8)]
    assert [part.name for part in records.parts()] == [path.name for path in paths]
    assert [part.size for part in records.parts()] == [path.stat().st_size for path in paths]


def test_only_changed_and_new_shards_are_read_again(tmp_path):
    paths = write_shards(tmp_path, num_shards=3)
    place = location(tmp_path)
    assert num_read(place) == 3
    before = content_of(place)
    assert num_read(place) == 0
    assert content_of(place) == before

    write_tar(paths[1], [*sample(100), ("000101.png", b"png")])
    write_tar(tmp_path / "00000-a.tar", sample(200))
    assert num_read(place) == 2
    records = Records(place)
    expected = [each for path in sorted(tmp_path.glob("*.tar")) for each in samples_of(path)]
    assert [records.key(row) for row in range(len(records))] == [key for key, _ in expected]
    images = [members.get("jpg", members.get("png")) for _, members in expected]
    assert [records.image(row) for row in range(len(records))] == images

    os.utime(paths[2], (5, 5))
    assert num_read(place) == 1
    before = Records(place).parts()
    status = paths[0].stat()
    paths[0].write_bytes(paths[0].read_bytes().replace(b"text", b"TEXT"))
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert num_read(place) == 1, "the time of the last change of status cannot be set back"
    assert sum(old != new for old, new in zip(before, Records(place).parts(), strict=True)) == 1


def test_members_of_shards_that_are_gone_are_gone(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b""), ("1.mask", b"")])
    write_tar(tmp_path / "b.tar", [("2.jpg", b"2")])
    build(location(tmp_path))
    (tmp_path / "a.tar").unlink()
    assert num_read(location(tmp_path)) == 0
    assert Records(location(tmp_path)).fields() == ["jpg"]


def test_another_list_of_shards_uses_what_is_known(tmp_path):
    write_shards(tmp_path, num_shards=3)
    build(location(tmp_path, "{00000..00001}.tar"))
    assert num_read(location(tmp_path)) == 1
    (tmp_path / "moved").mkdir()
    for path in [*tmp_path.glob("*.tar"), tmp_path / "set.index"]:
        path.rename(tmp_path / "moved" / path.name)
    assert Records(location(tmp_path / "moved")).field(7, "txt") == "text 000007"


def test_a_broken_shard_stops_but_what_was_read_is_kept(tmp_path):
    paths = write_shards(tmp_path, num_shards=4)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:1500])
    place = location(tmp_path)
    with pytest.raises(UsageError, match=r"00001.tar is cut short"):
        build(place)
    assert not Path(place.index).exists()
    paths[1].write_bytes(whole)
    assert num_read(place) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(path.name for path in paths), "set.index"]


def test_an_interrupted_scan_leaves_the_old_index_and_resumes(tmp_path):
    paths = write_shards(tmp_path, num_shards=3)
    place = location(tmp_path)
    build(place)
    before = content_of(place)
    for path in paths:
        os.utime(path, (5, 5))

    def interrupt(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(place, on_progress=interrupt)
    assert content_of(place) == before
    assert num_read(place) == 1
    assert [Records(place).field(row, "txt") for row in range(15)] == [f"text {row:06d}" for row in range(15)]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or "unfinished" in path.name]


def test_the_summary_counts_what_is_odd(tmp_path):
    members = [("1.jpg", b""), ("2.txt", b""), ("3.png", b""), ("3.jpg", b""), ("3.txt", b""), ("1.jpg", b"")]
    write_tar(tmp_path / "a.tar", [*members, ("x.pickle", b"")])
    first, *notes = build(location(tmp_path))
    assert "members: jpg, txt, png" in first
    assert set(notes) == {
        "ignored: pickled member: 1",
        "odd: sample with the key of an earlier one in its shard: 1",
        "samples without an image: 1",
        "samples with several images, of which the first of jpg, jpeg, png, webp is read: 1",
    }


TEXTS_APART = [(f"{folder}/{n}.{end}", b"") for folder, end in (("images", "jpg"), ("texts", "txt")) for n in "12"]


@pytest.mark.parametrize(
    ("shards", "sentence"),
    [
        ([TEXTS_APART], "shards: no image has another member of its name beside it"),
        ([[]], "there are no samples in"),
        ([None] * 15, r"at least 10 shards cannot be indexed: .*00.tar is not a tar archive.*09.tar"),
        ([sample(0), None, None], r"2 shards cannot be indexed: .*01.tar is not a tar archive.*02.tar"),
    ],
)
def test_shards_that_cannot_be_indexed_are_one_sentence(tmp_path, shards, sentence):
    for number, members in enumerate(shards):
        path = tmp_path / f"{number:02}.tar"
        path.write_bytes(b"no") if members is None else write_tar(path, members)
    with pytest.raises(UsageError, match=sentence):
        build(location(tmp_path))
    assert not (tmp_path / "set.index").exists()
    for path in tmp_path.glob("*.tar"):
        write_tar(path, TEXTS_APART[:2])
    assert len(indexed(location(tmp_path))) == 2 * len(shards), "images alone may have labels"


def test_a_remote_shard_without_a_version_is_always_read_again(tmp_path):
    """A server that gives neither ETag nor time: nothing tells that a shard of equal size is another one."""
    (tmp_path / "shards").mkdir()
    first, *_ = write_shards(tmp_path / "shards")
    with serving(tmp_path / "shards") as server:
        place = Location(shards=(f"{server.url}/{{00000..00002}}.tar",), index=str(tmp_path / "web.index"))
        assert num_read(place) == 3
        assert num_read(place) == 0
        server.gives_versions = False
        build(place)
        write_tar(first, [member for number in range(5) for member in sample(number + 90)])
        assert num_read(place) == 3
        assert Records(place, sleep=no_wait).field(0, "txt") == "text 000090"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        exhaustive(503, "^{} cannot be read: the server answers 503 Service Unavailable$"),
        (404, "at least 10 shards cannot be indexed: {} cannot be read: the server answers 404 Not Found; "),
    ],
)
def test_a_server_that_does_not_answer_is_said_once_and_shards_that_it_does_not_have_are_named(
    tmp_path, status, sentence
):
    with serving(tmp_path) as server:
        server.before = lambda *_: status
        names = tuple(f"{server.url}/{number:05}.tar" for number in range(12))
        with pytest.raises(UsageError, match=sentence.format(names[0])):
            build(Location(shards=names, index=str(tmp_path / "web.index")))
