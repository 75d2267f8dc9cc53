"""The files of a folder, beside a dictionary of all its files."""

import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.datasets.folder.checksums import GROUP
from aimv2.datasets.folder.files import IndexedFile
from aimv2.datasets.folder.walk import Walk, by_folder
from aimv2.datasets.stamps import stamp_of
from tests.helpers.folders import EXTENSIONS, fill, index_files
from tests.helpers.own_data import write


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
