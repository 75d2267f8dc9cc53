"""The files of a folder, beside a dictionary of all its files."""

import os
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.datasets.folder.files import GROUP, Files, IndexedFile, write_files
from aimv2.datasets.folder.walk import Walk, by_folder
from aimv2.datasets.stamps import stamp_of
from tests.helpers.own_data import write

EXTENSIONS = (".jpg", ".png")


def ignore(done, total):
    """Show no progress."""


def written(root, index, known=None, named=None, workers=1, on_progress=ignore):
    """Index a folder and return its files."""
    index.mkdir(exist_ok=True)
    write_files(index, str(root), list(Walk(str(root), EXTENSIONS, named)), known, workers, on_progress)
    return Files(index)


def fill(root, seed=0, num=60):
    """Write images with files beside them into nested folders, and return the content of all by path."""
    draw = random.Random(seed)
    found = {}
    for number in range(num):
        folder = draw.choice(["", "a/", "a/b/", "a-b/", "ä/", "z/y/x/"])
        stem = folder + draw.choice(["", "p.", "p-", "ö"]) + str(number)
        for extension in ("jpg", *draw.sample(["txt", "json", "caption.txt"], draw.randint(0, 3))):
            found[f"{stem}.{extension}"] = draw.randbytes(draw.randint(0, 50))
    for path, content in found.items():
        write(root / path, content)
    return found


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


@pytest.mark.parametrize("change", ["content", "status"])
def test_only_files_with_another_stamp_are_read_again(tmp_path, change):
    content = fill(tmp_path / "pictures")
    known = written(tmp_path / "pictures", tmp_path / "index")
    path = next(path for path in content if path.endswith("txt"))
    file = tmp_path / "pictures" / path
    before = file.stat()
    if change == "content":  # of equal length, and the time is set back
        write(file, bytes(before.st_size))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        file.chmod(0o600)
    seen = []
    again = written(
        tmp_path / "pictures", tmp_path / "again", known, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 1)]
    now = content | {path: file.read_bytes()}
    assert {path: again.find(path).checksum for path in now} == {path: zlib.crc32(each) for path, each in now.items()}


def test_a_file_that_changes_while_it_is_indexed_is_refused(tmp_path):
    fill(tmp_path / "pictures", num=3)
    listings = [each for each in Walk(str(tmp_path / "pictures"), EXTENSIONS) if each.names]
    write(tmp_path / "pictures" / listings[0].file(0)[0], "another content")
    (tmp_path / "index").mkdir()
    with pytest.raises(UsageError, match="changed while it was indexed; index again when it is complete"):
        write_files(tmp_path / "index", str(tmp_path / "pictures"), listings, None, 1, ignore)
