"""Listings of folders with links, stamps and checksums of files."""

import os
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.datasets import files
from aimv2.datasets.files import GROUP, MISSING, changes, checksums, difference, is_within, list_folder, stamp_at
from tests.helpers.own_data import write


def fill(root, seed=0, num=60):
    """Write images with files beside them into nested folders, and return the content of all by path."""
    draw = random.Random(seed)
    content = {}
    for number in range(num):
        stem = (
            draw.choice(["", "a/", "a/b/", "a-b/", "ä/", "z/y/x/"]) + draw.choice(["", "p.", "p-", "ö"]) + str(number)
        )
        for extension in ("jpg", *draw.sample(["txt", "json", "caption.txt"], draw.randint(0, 3))):
            content[f"{stem}.{extension}"] = draw.randbytes(draw.randint(0, 50))
    for path, each in content.items():
        write(root / path, each)
    return content


def test_all_files_of_samples_are_listed_in_the_order_of_folders(tmp_path):
    content = fill(tmp_path)
    for name in ("README.txt", ".hidden.jpg", ".cache/d.jpg", "e.jpg~", "0.tif"):
        write(tmp_path / name, "of no sample")
    listing = list_folder(str(tmp_path))
    assert set(listing.stamps) == set(content)
    assert listing.images == {path for path in content if path.endswith("jpg")}
    assert listing.others == {"tif": 1}
    folders = [path[: path.rfind("/") + 1] for path in listing.stamps]
    assert list(dict.fromkeys(folders)) == ["", "a/", "a/b/", "a-b/", "z/y/x/", "ä/"]
    for path, stamp in listing.stamps.items():
        assert stamp == stamp_at(tmp_path / path)


def test_named_files_are_images_whatever_their_extension(tmp_path):
    for name in ("a/one", "a/one.txt", "a/two", "b/.three", "four.gif", "four.txt", "a/oneself.txt"):
        write(tmp_path / name, name)
    listing = list_folder(str(tmp_path), named=["a/one", "b/.three", "four.gif", "none/five", "a/none"])
    assert sorted(listing.stamps) == ["a/one", "b/.three", "four.gif", "four.txt"]


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path):
    outside = write(tmp_path / "secret/b.jpg", "secret")
    inside = write(tmp_path / "pictures/a.jpg", "image")
    for name, target in (
        ("in.jpg", inside),
        ("a.txt", outside),
        ("out", outside.parent),
        ("loop", tmp_path / "pictures"),
        ("itself", tmp_path / "pictures/itself"),
    ):
        (tmp_path / "pictures" / name).symlink_to(target)
    listing = list_folder(str(tmp_path / "pictures"))
    assert list(listing.stamps) == ["a.jpg", "in.jpg"]
    assert listing.num_outside == 3
    assert not list_folder(str(tmp_path / "pictures"), named=["out/b.jpg"]).stamps


def test_a_subfolder_that_became_a_link_is_not_followed(tmp_path):
    write(tmp_path / "pictures/a/1.jpg", "image")
    assert list_folder(str(tmp_path / "pictures"), named=["a/1.jpg"]).stamps
    (tmp_path / "pictures/a").rename(tmp_path / "elsewhere")
    (tmp_path / "pictures/a").symlink_to(tmp_path / "elsewhere")
    files._holds.cache_clear()  # as in a new process
    assert not list_folder(str(tmp_path / "pictures"), named=["a/1.jpg"]).stamps


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


def test_a_name_that_is_not_utf8_matters_only_with_samples(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    assert not list_folder(str(tmp_path)).stamps
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(UsageError, match="is not UTF-8; rename it"):
        list_folder(str(tmp_path))


@given(data=st.data())
def test_a_difference_names_what_was_edited(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("files")
    content = fill(root, num=12)
    before = list_folder(str(root)).stamps
    path = data.draw(st.sampled_from([path for path in content if not path.endswith("jpg")]))
    kind = data.draw(st.sampled_from(["missing", "new", "longer", "time", "status"]))
    file, expected = root / path, f"{path} is changed"
    if kind == "missing":
        file.unlink()
        expected = f"{path} is missing"
    elif kind == "new":
        new = write(file.with_name(f"{file.name.partition('.')[0]}.new.jpg"), "image")
        expected = f"{new.relative_to(root)} is new"
    elif kind == "longer":
        write(file, content[path] + b"x")
    elif kind == "time":
        os.utime(file, (0, 0))
    else:
        file.chmod(0o600)
        expected = ""
    assert difference(before, list_folder(str(root)).stamps) == expected


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


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({}, ""),
        ({"missing": [], "new": []}, ""),
        ({"missing": ["a"], "new": ["c", "b"]}, "a is missing; b, c are new"),
        ({"changed": list("abcde")}, "a, b, c and 2 more are changed"),
    ],
)
def test_changes_are_one_sentence(names, sentence):
    assert changes(names) == sentence


@pytest.mark.parametrize("workers", [1, 2])
def test_checksums_are_those_of_zlib(tmp_path, workers):
    content = fill(tmp_path, num=GROUP)
    done = []
    stamps = list_folder(str(tmp_path)).stamps
    sums = dict(checksums(str(tmp_path), stamps, workers, lambda number, total: done.append((number, total))))
    assert sums == {path: f"{zlib.crc32(each):08x}" for path, each in content.items()}
    assert done[0][0] == GROUP
    assert done[-1] == (len(content), len(content))


def test_a_file_that_changes_while_it_is_indexed_is_refused(tmp_path):
    content = fill(tmp_path)
    stamps = list_folder(str(tmp_path)).stamps
    write(tmp_path / next(iter(content)), "another content")
    with pytest.raises(UsageError, match="changed while it was indexed; index again when it is complete"):
        list(checksums(str(tmp_path), stamps, 1, lambda *_: None))
