import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.datasets.shards.tar import AFTER_END, WINDOW, TarError, first_member, walk
from tests.helpers.programs import skip_without

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}
KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.DIRTYPE: "folder",
}


class Trickle(io.RawIOBase):
    """A file that gives a few bytes at a time."""

    def __init__(self, content: bytes, seed: int) -> None:
        self._file, self._random = io.BytesIO(content), random.Random(seed)

    def readinto(self, buffer):
        return self._file.readinto(memoryview(buffer)[: self._random.randint(1, 2000)])


def members(content):
    return list(walk(io.BytesIO(content), lambda _: None))


def listed(content):
    """List an archive with our reader; tarfile leaves out the slash after a folder."""
    return [(one.name.rstrip("/") if one.kind == "folder" else one.name, *one[1:]) for one in members(content)]


def _size_and_checksum(tar, info):
    return (info.size, zlib.crc32(tar.extractfile(info).read())) if info.isreg() else (0, 0)


def expected(content):
    """List an archive with tarfile."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [
            (info.name, KINDS.get(info.type, ""), info.offset, info.offset_data, *_size_and_checksum(tar, info))
            for info in tar
        ]


def tar_bytes(files, kind=tarfile.PAX_FORMAT, mtime=1.5):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, size in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, mtime
            tar.addfile(info, io.BytesIO(random.Random(size).randbytes(size)))
    return stream.getvalue()


@given(
    files=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.integers(0, 3000))
    ),
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    mtime=st.sampled_from([0, 1.25]),
    seed=st.integers(0, 100),
)
def test_members_are_those_of_tarfile_for_any_names_and_sizes(files, kind, mtime, seed):
    content = tar_bytes(files, kind, int(mtime) if kind == tarfile.GNU_FORMAT else mtime)
    assert [tuple(member) for member in walk(Trickle(content, seed), lambda _: None)] == expected(content)


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_links_devices_and_folders_are_told_apart_in_every_format(kind, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
        for type_ in (*KINDS, tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            # A file of the oldest kind whose cut name ends in a slash is a folder.
            info = tarfile.TarInfo("long/" * (5 if type_ == tarfile.AREGTYPE else 25) + "name." + "x" * 40)
            info.type, info.linkname = type_, "/etc/passwd"
            info.size = 700 if type_ in tarfile.REGULAR_TYPES else 0
            tar.addfile(info, io.BytesIO(random.Random(0).randbytes(700)))
    content = (tmp_path / "a.tar").read_bytes()
    assert listed(content) == expected(content)
    assert {member.kind for member in members(content)} == {"", *KINDS.values()}


@pytest.mark.parametrize("blocks", range(8))
@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_headers_may_cross_the_end_of_a_window(blocks, kind):
    long = "d/" * 60 + "name" if kind == tarfile.USTAR_FORMAT else "n" * 3000
    content = tar_bytes([("a", WINDOW - 512 * blocks - 1), (long, 10), ("c", 2 * WINDOW), ("d", 0)], kind, 7)
    assert listed(content) == expected(content)


def test_all_bytes_are_passed_on_in_order():
    content = tar_bytes([("a", 5000), ("b", 3)])
    seen = io.BytesIO()
    list(walk(Trickle(content, 0), seen.write))
    assert seen.getvalue() == content


@pytest.mark.parametrize("kind", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_what_gnu_tar_writes_is_read(kind, tmp_path):
    skip_without(shutil.which("tar"), "no tar")
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    (source / "b" / ("n" * (200 if kind in ("gnu", "oldgnu", "pax") else 90))).write_bytes(bytes(1234))
    (source / "a.txt").write_text("text")
    (source / "link").symlink_to("a.txt")
    os.link(source / "a.txt", source / "hard")
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", f"--format={kind}", "-C", source, "."], check=True)
    content = (tmp_path / "a.tar").read_bytes()
    assert listed(content) == expected(content)
    assert {"", "folder", "symbolic link", "hard link"} == {member.kind for member in members(content)}


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_sizes_beyond_eight_gigabytes_are_read(kind):
    info = tarfile.TarInfo("large.jpg")
    info.size = 2**33 + 5
    member = first_member(info.tobuf(kind))
    assert member is not None
    assert (member.name, member.size) == ("large.jpg", 2**33 + 5)


def test_names_that_are_not_utf8_are_escaped():
    info = tarfile.TarInfo("a\udcff.jpg")
    member = first_member(info.tobuf(tarfile.GNU_FORMAT))
    assert member is not None
    assert member.name == "a\\xff.jpg"


def test_signed_checksums_of_old_writers_are_accepted():
    header = bytearray(tarfile.TarInfo("ä.jpg").tobuf(tarfile.GNU_FORMAT))
    signed = tarfile.calc_chksums(bytes(header))[1]
    assert signed != tarfile.calc_chksums(bytes(header))[0]
    header[148:156] = b"%06o\0 " % signed
    assert [member.name for member in members(bytes(header) + bytes(1024))] == ["ä.jpg"]


@given(
    position=st.integers(0, 511).filter(lambda at: not 148 <= at < 156),
    flip=st.integers(1, 255),
    block=st.integers(0, 5),
)
def test_a_changed_byte_in_any_header_is_an_error(position, flip, block):
    content = bytearray(tar_bytes([("a", 0), ("b", 0)]))  # each: pax header, its content, header
    is_header = block % 3 != 1
    content[512 * block + position] ^= flip
    if is_header:
        with pytest.raises(TarError):
            members(bytes(content))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_an_archive_cut_anywhere_is_an_error(kind, size):
    content = tar_bytes([("a", 100), ("b", size)], kind, 1)
    end = expected(content)[-1][3] + -(-size // 512) * 512
    for length in range(0, end + 512, 128):
        with pytest.raises(TarError):
            members(content[:length])
    assert len(members(content[: end + 512])) == 2  # one block of zeros marks the end


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"short", "is not a tar archive"),
        (b"<html>" * 1000, "is not a tar archive"),
        (gzip.compress(tar_bytes([("a", 5)]) + os.urandom(2000)), r"is compressed \(gzip\); decompress it"),
        (lzma.compress(tar_bytes([("a", 5)]) + os.urandom(2000)), r"is compressed \(xz\)"),
        (
            tar_bytes([("a", 5000)])[:3000],
            "is cut short: its member 'a' ends at byte 6,656, and the file at byte 3,000",
        ),
        (tar_bytes([("a", 512)])[:2048], "is cut short: it ends at byte 2,048 without the mark of its end"),
    ],
)
def test_other_files_are_told_in_one_sentence(content, message):
    with pytest.raises(TarError, match=message):
        members(content)


def test_bytes_after_the_end_are_reported():
    content = tar_bytes([("a", 5)])
    *files, after = members(content + b"x" * 700)
    assert [file.name for file in files] == ["a"]
    assert (after.kind, after.size) == (AFTER_END, 700)
    assert members(content + bytes(700)) == files


@pytest.mark.parametrize(
    "pax_headers",
    [{"GNU.sparse.major": "1"}, {"size": "-5"}, {"size": "1e3"}, {"size": "9" * 30}],
)
def test_pax_headers_that_change_the_content_are_refused(pax_headers):
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = pax_headers
    with pytest.raises(TarError):
        members(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


@pytest.mark.parametrize("content", [b"5 path=a\n", b"999 path=a\n", b"x", b"9 path=a."])
def test_broken_pax_headers_are_refused(content):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(content)
    archive = header.tobuf(tarfile.USTAR_FORMAT) + content.ljust(512, b"\0") + tarfile.TarInfo("a").tobuf()
    with pytest.raises(TarError, match="broken pax header"):
        members(archive + bytes(1024))


def test_a_global_header_may_not_name_members(tmp_path):
    for headers, is_allowed in (({"comment": "x"}, True), ({"path": "x"}, False)):
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
            tar.addfile(tarfile.TarInfo("a.txt"))
        content = (tmp_path / "a.tar").read_bytes()
        if is_allowed:
            assert [member.name for member in members(content)] == ["a.txt"]
        else:
            with pytest.raises(TarError, match="global header"):
                members(content)


@pytest.mark.parametrize("size", [2**20 + 1, 2**60])
def test_extended_headers_of_any_length_are_not_read_into_memory(size):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    with pytest.raises(TarError, match="extended header"):
        members(header.tobuf(tarfile.GNU_FORMAT) + bytes(5000))


def test_endless_extended_headers_are_an_error():
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    with pytest.raises(TarError, match="has a header of more than"):
        members(header.tobuf(tarfile.USTAR_FORMAT) * (WINDOW // 512 + 10))
