"""The files of a folder, beside a dictionary of all its files."""

import os
import shutil
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.datasets.folder.checksums import GROUP
from aimv2.datasets.folder.files import Files, IndexedFile
from aimv2.datasets.folder.walk import Walk, by_folder
from aimv2.datasets.stamps import stamp_of
from tests.helpers.folders import EXTENSIONS, fill, index_files
from tests.helpers.own_data import settle, write


def written(root, index, named=None, workers=1):
    """Index a folder and return its files."""
    return index_files(root, index, named, workers=workers)[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_file_of_a_sample_is_found_by_its_path(tmp_path, workers):
    content = fill(tmp_path / "pictures", num=GROUP)
    write(tmp_path / "pictures/README.txt", "of no sample")
    found = written(tmp_path / "pictures", tmp_path / "index", workers=workers)
    for path, expected in content.items():
        stamp = stamp_of((tmp_path / "pictures" / path).stat())
        assert found.find(path) == IndexedFile(stamp, zlib.crc32(expected))
    for path in ("README.txt", "none.jpg", "a/none.jpg", "none/a.jpg", "a", "a/b/", ""):
        assert found.find(path) is None
    assert not found.difference(Walk(str(tmp_path / "pictures"), EXTENSIONS))


def test_named_files_are_images_whatever_their_extension(tmp_path):
    for name in ("a/one", "a/one.txt", "a/two", "b/.three", "four.gif", "four.txt", "a/oneself.txt"):
        write(tmp_path / "pictures" / name, name)
    named = by_folder(["a/one", "b/.three", "four.gif", "none/five", "a/none"])
    found = written(tmp_path / "pictures", tmp_path / "index", named=named)
    names = [each.folder + name for each in found.listings() for name in each.names]
    assert sorted(names) == ["a/one", "b/.three", "four.gif", "four.txt"]


@given(data=st.data())
def test_a_difference_names_what_was_edited(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("files")
    content = fill(root / "pictures", num=12)
    found = written(root / "pictures", root / "index")
    walk = Walk(str(root / "pictures"), EXTENSIONS)
    path = data.draw(st.sampled_from([path for path in content if not path.endswith("jpg")]))
    kind = data.draw(st.sampled_from(["missing", "new", "longer", "time", "status"]))
    file, expected = root / "pictures" / path, f"{path} is changed"
    if kind == "missing":
        file.unlink()
        expected = f"{path} is missing"
    elif kind == "new":
        write(file.with_name(f"{file.name.partition('.')[0]}.new.jpg"), "image")
        expected = f"{path.rpartition('/')[0]}{'/' * ('/' in path)}{file.name.partition('.')[0]}.new.jpg is new"
    elif kind == "longer":
        write(file, content[path] + b"x")
    elif kind == "time":
        os.utime(file, (0, 0))
    else:
        file.chmod(0o600)
        expected = ""
    assert found.difference(walk) == expected


def test_a_folder_that_has_gone_is_missing(tmp_path):
    content = fill(tmp_path / "pictures")
    found = written(tmp_path / "pictures", tmp_path / "index")
    gone = [path for path in content if path.startswith("z/")]
    for path in gone:
        (tmp_path / "pictures" / path).unlink()
    (tmp_path / "pictures/z/y/x").rmdir()
    sentence = found.difference(Walk(str(tmp_path / "pictures"), EXTENSIONS))
    assert sentence.endswith(f" and {len(gone) - 3} more are missing")


def lazily(found, root):
    """Return the difference that a walk finds which lists only folders that have changed."""
    return found.difference(Walk(str(root), EXTENSIONS, known=found.folder_stamps))


def rename_over(file):
    write(file.with_name("new"), "other").replace(file)


def move(file):
    file.rename(file.with_name("moved.jpg"))


EDITS = {
    "missing": lambda file: file.unlink(),
    "replaced": rename_over,
    "moved": move,
    "new": lambda file: write(file.with_name("new.jpg"), "image"),
    "beside": lambda file: write(file.with_suffix(".beside"), "text"),
    "unrelated": lambda file: write(file.with_name("unrelated"), "of no sample"),
    "subfolder": lambda file: write(file.parent / "sub/folder/1.jpg", "image"),
    "empty": lambda file: (file.parent / "sub/folder").mkdir(parents=True, exist_ok=True),
    "hidden": lambda file: write(file.parent / ".sub/1.jpg", "image"),
    "folder": lambda file: file.parent.rename(f"{file.parent}-renamed"),
    "status": lambda file: file.chmod(0o600),
}


@given(data=st.data())
def test_listing_only_folders_that_have_changed_finds_what_listing_all_finds(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("files") / "pictures"
    content = fill(root, num=12)
    found = written(settle(root), root.with_name("index"))
    for kind in data.draw(st.lists(st.sampled_from(list(EDITS)), max_size=3)):
        file = root / data.draw(st.sampled_from(list(content)))
        if file.exists() and (kind != "folder" or file.parent != root):
            EDITS[kind](file)
    assert lazily(found, root) == found.difference(Walk(str(root), EXTENSIONS))


def test_a_file_that_was_edited_in_place_is_found_once_its_folder_is_listed(tmp_path):
    root = tmp_path / "pictures"
    for name in ("1.jpg", "2.jpg", "a/3.jpg"):
        write(root / name, "image")
    found = written(settle(root), tmp_path / "index")
    for name in ("1.jpg", "a/3.jpg"):
        write(root / name, "another image")
    assert lazily(found, root) == ""
    write(root / "notes.txt", "of no sample")
    assert lazily(found, root) == "1.jpg is changed"
    assert found.difference(Walk(str(root), EXTENSIONS)) == "1.jpg, a/3.jpg are changed"


def test_every_folder_of_a_copy_is_listed(tmp_path):
    root = tmp_path / "pictures"
    fill(root)
    found = written(settle(root), tmp_path / "index")
    shutil.copytree(root, tmp_path / "copy")  # with all times, but for that of the last change of status
    walk = Walk(str(tmp_path / "copy"), EXTENSIONS, known=found.folder_stamps)
    assert found.difference(walk) == ""
    assert not walk.unchanged


def test_an_index_without_stamps_of_folders_has_every_folder_listed(tmp_path):
    root = tmp_path / "pictures"
    fill(root)
    written(settle(root), tmp_path / "index")
    path = tmp_path / "index/folders.arrow"
    with pa.ipc.open_file(path) as file:
        folders = file.read_all().drop_columns(["stamp"])
    with pa.ipc.new_file(path, folders.schema) as file:
        file.write_table(folders)
    found = Files(tmp_path / "index")
    walk = Walk(str(root), EXTENSIONS, known=found.folder_stamps)
    assert found.difference(walk) == ""
    assert not walk.unchanged
