"""Walks through folders with links."""

import os
from pathlib import Path

import pytest

from aimv2.datasets.folder import walk
from aimv2.datasets.folder.walk import Walk, is_within
from aimv2.datasets.stamps import stamp_of
from tests.helpers.own_data import settle, write

EXTENSIONS = (".jpg", ".png")


def stamps(root, named=None):
    """Return the stamps of the folders of a walk."""
    return {each.folder: each.folder_stamp for each in Walk(str(root), EXTENSIONS, named)}


def listed(root, known, **arguments):
    """Return the folders that a walk lists, and those that it does not."""
    found = Walk(str(root), EXTENSIONS, known=known, **arguments)
    return [each.folder for each in found], found.unchanged


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path):
    outside = write(tmp_path / "secret/b.jpg", "secret")
    inside = write(tmp_path / "pictures/a.jpg", "image")
    (tmp_path / "pictures/in.jpg").symlink_to(inside)
    (tmp_path / "pictures/a.txt").symlink_to(outside)
    (tmp_path / "pictures/out").symlink_to(outside.parent)
    found = Walk(str(tmp_path / "pictures"), EXTENSIONS)
    assert [each.names for each in found] == [["a.jpg", "in.jpg"]]
    assert found.num_outside == 2
    assert [each.names for each in Walk(str(tmp_path / "pictures"), named={"out/": {"b.jpg"}})] == [[]]


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("a/b.jpg", True),
        ("a/none.jpg", True),
        ("a/../a/b.jpg", True),
        ("a/..", False),
        ("..", False),
        ("../pictures2/c.jpg", False),
        ("a/../../pictures2/c.jpg", False),
        ("out/c.jpg", False),
        ("a/link.jpg", False),
        ("/etc/passwd", False),
    ],
)
def test_is_within_follows_links(tmp_path, path, inside):
    write(tmp_path / "pictures/a/b.jpg", "")
    outside = write(tmp_path / "pictures2/c.jpg", "")
    (tmp_path / "pictures/out").symlink_to(outside.parent)
    (tmp_path / "pictures/a/link.jpg").symlink_to(outside)
    root = os.path.realpath(tmp_path / "pictures")
    assert is_within(root, os.path.join(root, path)) is inside


@pytest.fixture
def pictures(tmp_path):
    """Return a settled folder with samples in some of its subfolders only."""
    for name in ("a/b/1.jpg", "a/b/1.txt", "c/2.jpg", "c/.hidden/3.jpg", "d/e/notes.txt"):
        write(tmp_path / "pictures" / name, name)
    return settle(tmp_path / "pictures")


ALL = ["", "a/", "a/b/", "c/", "d/", "d/e/"]


def test_stamps_of_folders_are_those_of_the_file_system(pictures):
    assert stamps(pictures) == {folder: stamp_of(os.stat(pictures / folder)) for folder in ALL}
    assert listed(pictures, stamps(pictures)) == ([], set(ALL))


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda root: write(root / "d/e/4.jpg", "new"), ["d/e/"]),
        (lambda root: write(root / "f/g/4.jpg", "new"), ["", "f/", "f/g/"]),
        (lambda root: (root / "a/b/1.jpg").unlink(), ["a/b/"]),
        (lambda root: write(root / "x", "other").replace(root / "c/2.jpg"), ["", "c/"]),
        (lambda root: (root / "a/b").rename(root / "a/z"), ["a/", "a/z/"]),
        (lambda root: write(root / "a/.hidden", ""), ["a/"]),
        (lambda root: (root / "d/e").chmod(0o700), ["d/e/"]),
        (lambda root: write(root / "c/2.jpg", "in place"), []),
        (lambda root: write(root / "c/.hidden/5.jpg", "new"), []),
    ],
)
def test_only_folders_whose_names_changed_are_listed_again(pictures, change, changed):
    known = stamps(pictures)
    change(pictures)
    again, unchanged = listed(pictures, known)
    assert again == changed
    assert unchanged == {folder for folder in ALL if folder not in changed and (pictures / folder).exists()}


def test_a_folder_whose_time_was_set_back_is_listed_again(pictures):
    known = stamps(pictures)
    write(pictures / "c/4.jpg", "new")
    settle(pictures / "c")
    assert stamp_of(os.stat(pictures / "c")).modified == known["c/"].modified
    assert listed(pictures, known) == (["c/"], set(ALL) - {"c/"})


def test_a_folder_that_changed_within_the_last_tick_is_listed_again(pictures):
    write(pictures / "c/4.jpg", "new")
    known = stamps(pictures)
    assert [folder for folder, stamp in known.items() if stamp is None] == ["c/"]
    assert listed(pictures, known) == (["c/"], set(ALL) - {"c/"})


@pytest.mark.parametrize("seconds", [0, 4e9])  # a file system without times of folders, and a clock that is ahead
def test_a_folder_with_a_time_that_says_nothing_is_listed_again(pictures, seconds):
    os.utime(pictures / "c", (seconds, seconds))
    assert stamps(pictures)["c/"] is None


def test_a_folder_with_a_link_is_listed_again_because_its_target_may_change(pictures):
    (pictures / "c/link.jpg").symlink_to(pictures / "c/.hidden/3.jpg")
    (pictures / "d/broken").symlink_to(pictures / "none")
    known = stamps(settle(pictures))
    assert [folder for folder, stamp in known.items() if stamp is None] == ["c/", "d/"]


def test_every_folder_is_listed_where_links_are_followed(pictures):
    assert listed(pictures, stamps(pictures), follow_links=True) == (ALL, set())


def test_a_subfolder_that_became_a_link_is_not_followed(pictures, tmp_path):
    named = {"a/b/": {"1.jpg"}}
    known = stamps(pictures, named)
    assert listed(pictures, known, named=named) == ([], {"a/b/"})
    (pictures / "a").rename(tmp_path / "elsewhere")
    (pictures / "a").symlink_to(tmp_path / "elsewhere")
    root = Path(os.path.realpath(pictures))
    assert stamp_of(os.stat(root / "a/b")) == known["a/b/"]
    walk._holds.cache_clear()  # as in a new process
    assert [each.names for each in Walk(str(root), EXTENSIONS, named, known)] == [[]]


def test_a_folder_whose_name_is_not_utf8_matters_only_with_samples(pictures):
    odd = os.fsencode(pictures) + b"/d/\xff"
    os.mkdir(odd)
    known = stamps(settle(pictures))
    assert list(known) == ALL
    assert known["d/"] is None
