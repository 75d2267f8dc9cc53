"""Checksums of the files of a folder, beside those of zlib; and what is kept of a reading that does not end."""

import errno
import os
import zlib

import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.folder.checksums import GROUP
from aimv2.datasets.folder.files import Files
from tests.helpers.folders import fill, index_files
from tests.helpers.own_data import settle, write

NUM = 3 * GROUP  # so that the files are of several groups


def content_of(index):
    return {path.name: path.read_bytes() for path in index.iterdir()}


@pytest.fixture
def pictures(tmp_path):
    """Return a settled folder of many files, and what an undisturbed call writes."""
    fill(tmp_path / "pictures", num=NUM)
    settle(tmp_path / "pictures")
    _, found = index_files(tmp_path / "pictures", tmp_path / "index")
    assert found.num_read > NUM
    undisturbed = content_of(tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / "undisturbed")
    return tmp_path / "pictures", undisturbed, found.num_read


def interrupt(done, total):
    if done > GROUP:
        raise KeyboardInterrupt


@pytest.mark.parametrize("change", ["content", "status"])
def test_only_files_with_another_stamp_are_read_again(tmp_path, change):
    content = fill(tmp_path / "pictures")
    index_files(tmp_path / "pictures", tmp_path / "index")
    path = next(path for path in content if path.endswith("txt"))
    file = tmp_path / "pictures" / path
    before = file.stat()
    if change == "content":  # of equal length, and the time is set back
        write(file, bytes(before.st_size))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        file.chmod(0o600)
    seen = []
    again, found = index_files(
        tmp_path / "pictures", tmp_path / "index", on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 1)]
    rest = f"not read again, because size and times have not changed: {len(content) - 1} files"
    assert found.notes == ["read 1 files", rest]
    now = content | {path: file.read_bytes()}
    assert {path: again.find(path).checksum for path in now} == {path: zlib.crc32(each) for path, each in now.items()}


def test_all_files_are_read_again_on_request(tmp_path):
    content = fill(tmp_path / "pictures")
    index_files(tmp_path / "pictures", tmp_path / "index")
    _, found = index_files(tmp_path / "pictures", tmp_path / "index", verify=True)
    assert found.notes == [f"read {len(content)} files"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_reading_is_resumed(pictures, tmp_path, workers):
    root, undisturbed, num_files = pictures
    with pytest.raises(KeyboardInterrupt):
        index_files(root, tmp_path / "index", workers=workers, on_progress=interrupt)
    assert not (tmp_path / "index").exists()
    _, found = index_files(root, tmp_path / "index", workers=workers)
    assert found.notes == [
        f"read {num_files - 2 * GROUP} files",
        f"not read again, because size and times have not changed: {2 * GROUP} files",
    ]
    assert content_of(tmp_path / "index") == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "pictures", "undisturbed"]


def test_a_reading_may_be_interrupted_again_and_again(pictures, tmp_path):
    root, undisturbed, num_files = pictures

    def after_one_group(done, total):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            index_files(root, tmp_path / "index", on_progress=after_one_group)
    _, found = index_files(root, tmp_path / "index")
    assert found.num_read == num_files - 3 * GROUP
    assert content_of(tmp_path / "index") == undisturbed


def test_an_interrupted_reading_leaves_the_earlier_index(pictures, tmp_path):
    root, undisturbed, _ = pictures
    index_files(root, tmp_path / "index")
    with pytest.raises(KeyboardInterrupt):
        index_files(root, tmp_path / "index", on_progress=interrupt, verify=True)
    assert content_of(tmp_path / "index") == undisturbed
    _, found = index_files(root, tmp_path / "index")
    assert found.num_read == 0
    assert content_of(tmp_path / "index") == undisturbed


def test_an_interrupted_verification_forgets_nothing(pictures, tmp_path):
    root, undisturbed, num_files = pictures
    for verify in (False, True):
        with pytest.raises(KeyboardInterrupt):
            index_files(root, tmp_path / "index", on_progress=interrupt, verify=verify)
    _, found = index_files(root, tmp_path / "index")
    assert found.num_read == num_files - 2 * GROUP
    assert content_of(tmp_path / "index") == undisturbed


def test_a_file_that_changes_while_it_is_indexed_is_refused_and_the_others_are_not_read_again(pictures, tmp_path):
    root, _, num_files = pictures
    *_, listing = Files(tmp_path / "undisturbed").listings()
    last = listing.folder + listing.names[-1]

    def change(done, total):
        write(root / last, "another content")

    with pytest.raises(UsageError, match="changed while it was indexed; index again when it is complete"):
        index_files(root, tmp_path / "index", on_progress=change)
    again, found = index_files(root, tmp_path / "index")
    assert again.find(last).checksum == zlib.crc32(b"another content")
    assert found.num_read == (num_files - 1) % GROUP + 1, "its group"


def test_a_reading_that_fails_at_once_leaves_nothing(tmp_path, monkeypatch):
    fill(tmp_path / "pictures")
    real_open = open

    def refused(file, *args, **kwargs):
        if str(file).endswith(".jpg"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(UsageError, match=r"\.jpg cannot be read: Permission denied"):
        index_files(tmp_path / "pictures", tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_broken_index_is_read_anew(pictures, tmp_path):
    root, undisturbed, num_files = pictures
    with pytest.raises(KeyboardInterrupt):
        index_files(root, tmp_path / "index", on_progress=interrupt)
    write(tmp_path / "index.unfinished/files.arrow", "cut")
    _, found = index_files(root, tmp_path / "index")
    assert found.num_read == num_files
    assert content_of(tmp_path / "index") == undisturbed


def test_what_was_read_of_another_folder_is_not_taken(pictures, tmp_path):
    root, _, _ = pictures
    with pytest.raises(KeyboardInterrupt):
        index_files(root, tmp_path / "index", on_progress=interrupt)
    fill(tmp_path / "others", num=3)
    _, found = index_files(tmp_path / "others", tmp_path / "index")
    assert found.num_read == sum(path.is_file() for path in (tmp_path / "others").rglob("*"))
    assert not (tmp_path / "index.unfinished").exists()
