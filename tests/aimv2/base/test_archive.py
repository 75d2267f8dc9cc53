"""Zip files: the same bytes again, checked by sha256sum, and refused if they are broken or lead elsewhere."""

import contextlib
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.archive import SUMS, files_of, unpack_zip, write_zip
from aimv2.base.errors import UsageError

FILES = {"README.md": b"a card", "report/figures/a.png": bytes(range(256)), "empty": b""}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "study"


def sums(files):
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())


def crafted(path, members):
    """Write a zip file with these members, each a name or a ZipInfo, as it was asked for."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def test_a_folder_comes_back_with_its_checksums(folder, tmp_path):
    write_zip(folder, tmp_path / "a" / "study.zip")
    unpack_zip(tmp_path / "a" / "study.zip", tmp_path / "new" / "study")
    found = {name: (tmp_path / "new" / "study" / name).read_bytes() for name in files_of(tmp_path / "new" / "study")}
    assert found.pop(SUMS).decode() == sums(dict(sorted(FILES.items())))
    assert found == FILES
    if shutil.which("sha256sum"):
        command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
        subprocess.run(command, cwd=tmp_path / "new" / "study", check=True)
    with pytest.raises(UsageError, match=r"study.zip exists; choose another to="):
        write_zip(folder, tmp_path / "a" / "study.zip")
    with pytest.raises(UsageError, match="is not an empty folder"):
        unpack_zip(tmp_path / "a" / "study.zip", folder)


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    for number, path in enumerate(sorted(copied.rglob("*"))):
        os.utime(path, (number, number))
        path.chmod(0o700 if path.is_dir() else 0o600)
    for source in (folder, copied):
        write_zip(source, source.with_suffix(".zip"))
    assert copied.with_suffix(".zip").read_bytes() == folder.with_suffix(".zip").read_bytes()


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def compressed(name, method):
    member = zipfile.ZipInfo(name)
    member.compress_type = method
    return member


ELSEWHERE = "a file whose name leads elsewhere or is there twice"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        *(([(name, b"")], ELSEWHERE) for name in ("../a", "/etc/a", "a/../../b", "a//b", "C:\\a", "a\nb")),
        ([("a", b"x"), ("a", b"y")], ELSEWHERE),
        ([("a", b""), ("a/b", b"")], "cannot be unpacked"),
        ([("a", b"")], "has other files than SHA256SUMS lists: a"),
        ([("a", b"x"), (SUMS, sums({"a": b"y"}))], "zip: a: not the file of its checksum in SHA256SUMS"),
        ([("a", b"x"), (SUMS, "a")], "SHA256SUMS has a line that is no checksum: 'a'"),
        ([("a", b"x"), (SUMS, b"0" * (4 * 2**20 + 1))], "SHA256SUMS is larger than 4,194,304 bytes"),
        ([(compressed("a", zipfile.ZIP_LZMA), b"x" * 100)], "a is encrypted, or compressed by no usual method"),
        ([("a", b"x"), (SUMS, sums({"a": b"x", "b": b""}))], "has other files than SHA256SUMS lists: b"),
        ([("a", b"x"), (SUMS, b"\xff\xff")], "cannot be unpacked"),
        ([(str(number), b"") for number in range(20_001)], "is too large: at most 20,000 files"),
    ],
)
def test_a_crafted_zip_file_is_refused_and_leaves_nothing(tmp_path, members, message):
    path = crafted(tmp_path / "a.zip", members)
    with pytest.raises(UsageError, match=message):
        unpack_zip(path, tmp_path / "out" / "study")
    assert not [one for one in tmp_path.rglob("*") if one.is_file() and one != path]


def test_a_link_becomes_no_link(tmp_path):
    path = crafted(tmp_path / "a.zip", [(link("a"), b"/etc/passwd"), (SUMS, sums({"a": b"/etc/passwd"}))])
    unpack_zip(path, tmp_path / "out")
    assert not (tmp_path / "out" / "a").is_symlink()
    assert (tmp_path / "out" / "a").read_bytes() == b"/etc/passwd"


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    content = crafted(tmp_path / "a.zip", [(str(number), b"0") for number in range(5)]).read_bytes()
    for entry in re.finditer(b"PK\x01\x02", content):  # its size, as the directory of the file has it
        content = content[: entry.start() + 24] + (2**32 - 2).to_bytes(4, "little") + content[entry.start() + 28 :]
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UsageError, match="is too large"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip file" * 100])
def test_what_is_no_zip_file_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be unpacked"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")


def whole_zip():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, one in (FILES | {SUMS: sums(FILES).encode()}).items():
            archive.writestr(zipfile.ZipInfo(name), one)
    return content.getvalue()


WHOLE = whole_zip()


@given(place=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255), end=st.integers(0, 40))
@example(place=WHOLE.rindex(b"empty"), value=0, end=0)  # zipfile ends a name at a zero: one of no characters
def test_any_broken_byte_is_refused_or_changes_no_content(tmp_path_factory, place, value, end):
    folder = tmp_path_factory.mktemp("zip")
    (folder / "a.zip").write_bytes(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 : len(WHOLE) - end])
    with contextlib.suppress(UsageError):
        unpack_zip(folder / "a.zip", folder / "out")
        assert {name: (folder / "out" / name).read_bytes() for name in FILES} == FILES
        return
    assert not (folder / "out").exists()
