import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.base.files import create_json, read_json, read_object, replacing, share, to_yaml, writable_folder
from tests.helpers.files import files_limited_to


@pytest.fixture(params=["file", "folder"])
def place(request, tmp_path):
    """A place with its old content, and how new content is written and read there."""
    inner = "" if request.param == "file" else "inner"

    def write(path, text):
        if inner:
            path.mkdir()
        (path / inner).write_text(text)

    write(tmp_path / "a", "old")
    return tmp_path / "a", write, lambda path: (path / inner).read_text()


def test_what_is_written_replaces_the_old_as_a_whole(place):
    path, write, read = place
    with replacing(path) as partial:
        write(partial, "new")
        assert read(path) == "old"
    assert read(path) == "new"
    assert os.listdir(path.parent) == ["a"]


@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
def test_after_an_error_the_old_is_there_and_nothing_else(place, stop):
    path, write, read = place
    with pytest.raises(type(stop)), replacing(path) as partial:  # noqa: PT012
        write(partial, "new")
        raise stop
    assert read(path) == "old"
    assert os.listdir(path.parent) == ["a"]


def test_a_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    rename = Path.rename
    refused = OSError(errno.EACCES, "Permission denied")

    def only_the_old(path, target):
        if path.name == "new":
            raise refused
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", only_the_old)
    with pytest.raises(PermissionError), replacing(tmp_path / "a", partial=tmp_path / "new") as partial:
        partial.mkdir()
    assert os.listdir(tmp_path) == ["a"]


def test_only_new_replaces_no_folder_with_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(OSError, match="not empty"), replacing(tmp_path / "a", only_new=True) as partial:
        partial.mkdir()
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["old"]


def test_concurrent_replacements_leave_one_complete_folder(tmp_path):
    def replace(number):
        with replacing(tmp_path / "a") as partial:
            partial.mkdir()
            (partial / "file").write_text("complete")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(replace, range(32)))
    assert (tmp_path / "a" / "file").read_text() == "complete"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_read_json_names_a_missing_or_broken_file(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.json cannot be read .* delete the file"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["", "3", "[]", "nul", "\x00", "\xff", "[" * 100_000, '{"a": ' * 100_000])
def test_file_without_a_json_object_is_refused(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"config\.json") as caught:
        read_object(path)
    assert len(str(caught.value)) < 1000


def test_writable_folder_names_a_folder_that_cannot_be_written_and_notices_a_full_disk(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"runs_dir='/dev/null/x' cannot be written: Not a directory"):
        writable_folder("/dev/null/x", "runs_dir")
    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: write_bytes(Path("/dev/full"), content))
    with pytest.raises(UsageError, match=r"runs_dir=.* cannot be written: No space left on device"):
        writable_folder(str(tmp_path), "runs_dir")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("mode", "part", "expected"),
    [
        (0o2775, "", 0o660),
        (0o775, "", 0o660),
        (0o755, "", 0o600),
        (0o2775, "runs/to/be/made", 0o660),
        (0o775, "runs/to/be/made", 0o600),
    ],
)
def test_share_lets_the_group_write_in_a_group_folder(tmp_path, mode, part, expected):
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        share(tmp_path / part)
        (tmp_path / "a").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == expected


def test_a_file_system_without_hard_links_is_refused_in_one_sentence(tmp_path, monkeypatch):
    def link(source, target):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported", str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UsageError, match=r"is on a file system without hard links across folders \(BeeGFS before 7.4"):
        writable_folder(str(tmp_path / "runs"), "runs_dir", needs_links=True)
    assert not os.listdir(tmp_path / "runs")


def test_writable_folder_links_across_folders_and_leaves_nothing(tmp_path, monkeypatch):
    linked, link = [], os.link
    monkeypatch.setattr(os, "link", lambda source, target: (linked.append((source, target)), link(source, target)))
    assert writable_folder(str(tmp_path / "runs"), "runs_dir", needs_links=True) == tmp_path / "runs"
    ((source, target),) = linked
    assert Path(source).parent != Path(target).parent
    assert not os.listdir(tmp_path / "runs")


@given(values=st.recursive(st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
@example(values={"folder": ["\x85"], "\u2028": "\u2029 a"})
def test_any_text_is_read_again_from_yaml(values):
    assert yaml.safe_load(to_yaml(values)) == values


def test_one_of_many_processes_creates_a_file(tmp_path):
    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: create_json(path, number), range(64)))
    assert sum(created) == 1
    assert created[read_json(path)]
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_file_that_cannot_be_written_is_not_created(tmp_path):
    for limit in (0, 5):
        with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(limit):
            create_json(tmp_path / "a.json", "longer than that")
        assert not os.listdir(tmp_path)


def test_a_link_that_a_file_server_repeats_is_ours(tmp_path, monkeypatch):
    """NFS may repeat a request whose answer was lost."""
    link = os.link
    monkeypatch.setattr(os, "link", lambda source, target: (link(source, target), link(source, target)))
    assert create_json(tmp_path / "a.json", 1)
    assert not create_json(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1
