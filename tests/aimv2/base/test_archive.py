"""Archives: the same bytes again, checked by sha256sum, and refused if they are broken or lead elsewhere."""

import getpass
import hashlib
import io
import os
import platform
import re
import shutil
import string
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.archive import SUMS, PrivateNames, check_archive, write_sums, write_zip
from aimv2.base.errors import UsageError

FILES = {"README.md": b"a card", "report/figures/a.png": bytes(range(256)), "empty": b""}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_sums(tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def zipped(folder):
    write_zip(folder, folder.with_suffix(".zip"), "study")
    return folder.with_suffix(".zip")


def sums(files):
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())


def crafted(path, members):
    """Write a zip file with these members, each a name or a ZipInfo, as it was asked for."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def test_sums_are_those_of_sha256sum(folder):
    assert (folder / SUMS).read_text() == sums(dict(sorted(FILES.items())))
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=folder, check=True)


def test_a_folder_and_its_zip_file_are_read_as_they_are(folder, zipped):
    for path in (folder, zipped):
        archive = check_archive(path)
        assert {name: archive.read(name, 256) for name in archive.sums} == FILES
        with pytest.raises(UsageError, match="is larger than 255 bytes"):
            archive.read("report/figures/a.png", 255)
        with pytest.raises(UsageError, match="has no other"):
            archive.read("other", 1)


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(folder, zipped, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    for number, path in enumerate(sorted(copied.rglob("*"))):
        os.utime(path, (number, number))
        path.chmod(0o700 if path.is_dir() else 0o600)
    write_zip(copied, tmp_path / "copy.zip", "study")
    assert (tmp_path / "copy.zip").read_bytes() == zipped.read_bytes()
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == [f"study/{name}" for name in sorted([*FILES, SUMS])]
        assert archive.testzip() is None


@pytest.mark.parametrize("change", ["changed", "removed", "added", "no sums", "bad line", "twice"])
def test_a_folder_that_is_not_its_checksums_is_refused(folder, change):
    match change:
        case "changed":
            (folder / "README.md").write_bytes(b"a cart")
            message = "'README.md' is not the file of its checksum"
        case "removed":
            (folder / "empty").unlink()
            message = "'empty' are not both files and lines"
        case "added":
            (folder / "more").touch()
            message = "'more' are not both files and lines"
        case "no sums":
            (folder / SUMS).unlink()
            message = "has no SHA256SUMS"
        case "bad line":
            (folder / SUMS).write_text("README.md\n")
            message = "a line that is no checksum of another file: 'README.md'"
        case "twice":
            (folder / SUMS).write_text((folder / SUMS).read_text() * 2)
            message = "a line that is no checksum of another file"
    with pytest.raises(UsageError, match=message):
        check_archive(folder)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a", b"")], "has no SHA256SUMS"),
        ([("a", b"x"), (SUMS, sums({"a": b"y"}))], "'a' is not the file of its checksum"),
        ([("a", b"x"), (SUMS, b"\xff\xff")], "cannot be read as a folder or a zip file"),
    ],
)
def test_a_crafted_zip_file_is_refused(tmp_path, members, message):
    with pytest.raises(UsageError, match=message):
        check_archive(crafted(tmp_path / "a.zip", members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="two files of one name"):
        check_archive(crafted(tmp_path / "a.zip", [("a", b"x"), ("a", b"y")]))


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    content = crafted(tmp_path / "a.zip", [(str(number), b"0") for number in range(5)]).read_bytes()
    for entry in re.finditer(b"PK\x01\x02", content):  # its size, as the directory of the file has it
        content = content[: entry.start() + 24] + (2**32 - 2).to_bytes(4, "little") + content[entry.start() + 28 :]
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UsageError, match="has 5 files of 21,474,836,470 bytes; at most"):
        check_archive(tmp_path / "a.zip")
    with pytest.raises(UsageError, match="has 20,001 files of 0 bytes"):
        check_archive(crafted(tmp_path / "many.zip", [(str(number), b"") for number in range(20_001)]))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip file" * 100])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as a folder or a zip file"):
        check_archive(tmp_path / "a.zip")
    with pytest.raises(UsageError, match="No such file"):
        check_archive(tmp_path / "nothing.zip")


def whole_archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, one in (FILES | {SUMS: sums(FILES).encode()}).items():
            archive.writestr(zipfile.ZipInfo(name), one)
    return content.getvalue()


WHOLE = whole_archive()


def content_or_refusal(path):
    """Return the files of an archive by name, or the message with which it is refused."""
    try:
        archive = check_archive(path)
    except UsageError as error:
        return str(error)
    return {name: archive.read(name, 1000) for name in archive.sums}


@given(place=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255), end=st.integers(0, 40))
@example(place=WHOLE.rindex(b"empty"), value=0, end=0)  # zipfile ends a name at a zero: one of no characters
def test_any_broken_byte_is_refused_or_changes_no_content(tmp_path_factory, place, value, end):
    path = tmp_path_factory.mktemp("archive") / "a.zip"
    path.write_bytes(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 : len(WHOLE) - end])
    found = content_or_refusal(path)
    assert found == FILES or (isinstance(found, str) and "\n" not in found)


NAMES = PrivateNames("/home/mia", ("mia", "node17.lab.org", "node17", "ab", "", "root"), common="the root = package")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /home/mia/runs", "mia"),
        ('"owner": "Mia"', "mia"),
        ("on node17, and", "node17"),
        ("node17.lab.org", "node17.lab.org"),
        ("the root, and ab", ""),  # a word of the code; too short
        ("miami, node170, xnode17", ""),
        ("", ""),
    ],
)
def test_names_are_found_as_words(text, found):
    assert NAMES.found_in(text.encode()) == found


def test_a_home_folder_is_found_whatever_its_name():
    names = PrivateNames("/root", ("root",), common="root")
    assert names.found_in(b"runs_dir=/root/runs") == "/root"
    assert names.found_in(b"/root") == "/root"
    assert not names.found_in(b"/rooted and share/root")


@given(
    name=st.text(string.ascii_lowercase, min_size=3, max_size=8).map(lambda name: f"{name}q7"),
    before=st.sampled_from(["", "/", '"', " ", "@", "=", "\\"]),
    after=st.sampled_from(["", "/", '"', " ", ":", "\n", "."]),
)
def test_any_name_between_signs_is_found(name, before, after):
    names = PrivateNames("/", (name,))
    assert names.found_in(f"x{' ' if not before else ''}{before}{name.upper()}{after}".encode()) == name


def test_those_of_this_process_are_known():
    names = PrivateNames.here(["elsewhere.org"])
    assert names.found_in(f"{Path.home()}/runs".encode()) or str(Path.home()) == "/"
    assert names.found_in(b"at elsewhere") == "elsewhere"
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 3 or names.found_in(name.encode())
