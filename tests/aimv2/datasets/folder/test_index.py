import os
import random
import shutil

import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.folder import index
from aimv2.datasets.folder.checksums import GROUP
from aimv2.datasets.folder.records import FolderRecords
from tests.helpers.own_data import picture, settle, source, write


def build(location, workers=1):
    return index.build(location, workers, lambda done, total: None)


def keys(location):
    records = FolderRecords(location)
    return [records.key(row) for row in range(len(records))]


def test_images_are_all_files_with_their_extensions_in_the_order_of_their_paths(tmp_path):
    names = ["b.jpg", "a.PNG", "a/x.webp", "a/b/c.jpeg", "a-b/y.jpg", "ä/ö.png", "a0.jpg", "a/a.b.jpg"]
    random.Random(0).shuffle(names)
    for name in [*names, "c.gif", "notes.txt", "jpg", ".hidden.jpg", ".cache/d.jpg", "e.jpg.part"]:
        write(tmp_path / "pictures" / name, picture(1))
    location = source(tmp_path, folder="pictures")
    left_out = "files left out, because they are none of jpg, jpeg, png, webp: 1 gif"
    assert build(location) == index.Indexed(len(names), (left_out, f"read {len(names)} files"))
    assert keys(location) == sorted(names)


def test_image_limits_the_extensions(tmp_path):
    for name in ("a.jpg", "b.png", "c.gif"):
        write(tmp_path / "pictures" / name, picture(1))
    location = source(tmp_path, folder="pictures", image="gif")
    build(location)
    assert keys(location) == ["c.gif"]


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    inside = write(tmp_path / "pictures/a.jpg", picture(1))
    outside = write(tmp_path / "secret/b.jpg", picture(2))
    (tmp_path / "pictures/in.jpg").symlink_to(inside)
    (tmp_path / "pictures/out.jpg").symlink_to(outside)
    (tmp_path / "pictures/broken.jpg").symlink_to(tmp_path / "pictures/none.jpg")
    (tmp_path / "pictures/folder").symlink_to(outside.parent)
    (tmp_path / "pictures/loop").symlink_to(tmp_path / "pictures")
    location = source(tmp_path, folder="pictures")
    *notes, _ = build(location).notes
    assert keys(location) == ["a.jpg", "in.jpg"]
    assert len(notes) == 1
    assert notes[0].startswith("3 links were not followed")


def test_the_folder_itself_may_be_a_link(tmp_path):
    write(tmp_path / "disk/a/b.jpg", picture(1))
    (tmp_path / "pictures").symlink_to(tmp_path / "disk")
    location = source(tmp_path, folder="pictures")
    build(location)
    assert keys(location) == ["a/b.jpg"]
    assert FolderRecords(location).image(0) == picture(1)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_table_gives_rows_in_its_order_and_notes_missing_images(tmp_path, workers):
    for name in ("a.jpg", "b/c.jpg", "not in the table.jpg"):
        write(tmp_path / "pictures" / name, picture(1))
    write(tmp_path / "t.csv", "image,caption\nb/c.jpg,one\nnone.jpg,two\n./a.jpg,three\n")
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    indexed = build(location, workers)
    assert indexed.num_samples == 3
    assert indexed.notes == (f"1 of 3 images of the table are missing in {tmp_path}/pictures", "read 2 files")
    again = build(location, workers)
    assert again.notes[1:] == ("read 0 files", "not read again, because size and times have not changed: 2 files")
    assert keys(location) == ["b/c.jpg", "none.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("../out.jpg", r"row 2 of .*t\.csv: the path '\.\./out\.jpg' leaves the folder; paths have no"),
        ("b/../../out.jpg", "row 2 of .* leaves the folder"),
        ("/etc/passwd", "row 2 of .*'/etc/passwd' is not in folder: .*pictures; set folder to one that contains it"),
        ("", "row 2 of .* has no path of an image"),
        ("link.jpg", r"row 2 of .*: link\.jpg is a link that leads out of"),
        (
            "a.jpg",
            r"rows 1 and 2 of .*t\.csv have the same key 'a\.jpg'; give each row a unique value in a column named key",
        ),
    ],
)
def test_a_row_that_cannot_be_a_sample_is_named(tmp_path, bad, sentence):
    write(tmp_path / "pictures/a.jpg", picture(1))
    (tmp_path / "pictures/link.jpg").symlink_to(write(tmp_path / "out.jpg", picture(2)))
    write(tmp_path / "t.csv", f'image,caption\na.jpg,one\n"{bad}",two\n')
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    with pytest.raises(UsageError, match=sentence):
        build(location)
    assert not (tmp_path / "source.index").exists()


def test_absolute_paths_within_the_folder_are_paths(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    write(tmp_path / "pictures/b/c.jpg", picture(1))
    write(tmp_path / "pictures/d.jpg", picture(2))
    write(tmp_path / "t.csv", f"image,caption\n{tmp_path}/pictures/b/c.jpg,one\n{tmp_path}/link/d.jpg,two\n")
    location = source(tmp_path, folder="link", table="t.csv", short="caption")
    build(location)
    assert keys(location) == ["b/c.jpg", "d.jpg"]


def test_links_are_followed_on_request_and_never_in_a_circle(tmp_path):
    outside = write(tmp_path / "disk/b.jpg", picture(2))
    write(tmp_path / "disk/more/d.jpg", picture(4))
    write(tmp_path / "disk/b.txt", "two")
    farm = tmp_path / "pictures"
    write(farm / "a.jpg", picture(1))
    (farm / "b.jpg").symlink_to(outside)
    (farm / "b.txt").symlink_to(outside.with_suffix(".txt"))
    (farm / "all").symlink_to(outside.parent)
    (farm / "circle").symlink_to(farm)
    (outside.parent / "back").symlink_to(farm)
    (farm / "broken.jpg").symlink_to(tmp_path / "none.jpg")
    location = source(tmp_path, folder="pictures", follow_links=True)
    build(location)
    found = ["a.jpg", "all/b.jpg", "all/more/d.jpg", "b.jpg"]
    assert keys(location) == found
    records = FolderRecords(location)
    assert [records.image(row) for row in range(4)] == [picture(number) for number in (1, 2, 4, 2)]
    assert (records.field(3, "txt"), records.field(0, "txt")) == ("two", None)
    records.check()
    write(outside, picture(3))
    with pytest.raises(UsageError, match=r"b\.jpg, all/b\.jpg are changed"):
        records.check()
    write(tmp_path / "t.csv", f"image,caption\n{outside.parent}/b.jpg,one\n")
    table = source(tmp_path, folder="pictures", table="t.csv", follow_links=True, short="caption")
    with pytest.raises(UsageError, match="is not in folder"):
        build(table)
    write(tmp_path / "t.csv", "image,caption\nb.jpg,one\n")
    build(table)
    assert FolderRecords(table).image(0) == picture(3)
    with pytest.raises(UsageError, match="was made for another follow_links"):
        FolderRecords(source(tmp_path, folder="pictures", table="t.csv", short="caption"))


def test_rows_of_one_image_are_samples_if_they_have_keys(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(1))
    write(tmp_path / "t.csv", "key,image,caption\nx,a.jpg,one\ny,a.jpg,two\n")
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    build(location)
    assert keys(location) == ["x", "y"]
    assert [FolderRecords(location).image(row) for row in (0, 1)] == [picture(1)] * 2


def test_a_table_without_the_column_of_images_names_its_columns(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(1))
    write(tmp_path / "t.csv", "file,caption\na.jpg,one\n")
    with pytest.raises(UsageError, match="has no column 'image' with the paths of images; it has file, caption"):
        build(source(tmp_path, folder="pictures", table="t.csv"))
    location = source(tmp_path, folder="pictures", table="t.csv", image="file")
    build(location)
    assert keys(location) == ["a.jpg"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"folder": "empty"}, r"empty has no images \(jpg, jpeg, png, webp\)"),
        ({"folder": "none"}, "none is no folder that can be read"),
        ({"folder": "empty", "table": "t.csv"}, r"t\.csv has no rows"),
    ],
)
def test_a_folder_without_samples_is_one_sentence(tmp_path, values, sentence):
    write(tmp_path / "empty/notes.txt", "")
    write(tmp_path / "t.csv", "image\n")
    with pytest.raises(UsageError, match=sentence):
        build(source(tmp_path, **values))


def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(1))
    with open(os.path.join(os.fsencode(tmp_path), b"pictures", b"\xff.jpg"), "wb"):
        pass
    with pytest.raises(UsageError, match="is not UTF-8; rename it"):
        build(source(tmp_path, folder="pictures"))


def test_parts_tell_which_subfolder_changed(tmp_path):
    for name in ("a/1.jpg", "a/b/2.jpg", "c/3.jpg", "4.jpg"):
        write(tmp_path / "pictures" / name, picture(int(name[-5])))
    write(tmp_path / "pictures/c/3.txt", "three")
    location = source(tmp_path, folder="pictures")

    def parts():
        build(location)
        return {part.name: part for part in FolderRecords(location).parts()}

    first = parts()
    assert {name: part.num_samples for name, part in first.items()} == {".": 1, "a": 2, "c": 1}
    assert first["a"].size == len(picture(1)) + len(picture(2))
    write(tmp_path / "pictures/README", "no part of any sample")
    os.utime(tmp_path / "pictures/a/1.jpg", (0, 0))  # a copy has another time
    assert parts() == first
    write(tmp_path / "pictures/c/3.txt", "another caption")
    now = parts()
    assert [name for name in first if first[name] != now[name]] == ["c"]
    write(tmp_path / "pictures/a/b/5.jpg", picture(5))
    assert [name for name, part in parts().items() if now.get(name) != part] == ["a"]


def test_an_interrupted_index_is_resumed(tmp_path):
    num = 3 * GROUP
    for number in range(num):
        write(tmp_path / f"pictures/{number % 7}/{number}.jpg", f"image {number}")
    settle(tmp_path / "pictures")
    write(tmp_path / "t.csv", "\n".join(["image", *(f"{number % 7}/{number}.jpg" for number in range(num))]))
    location = source(tmp_path, folder="pictures", table="t.csv")
    folder = tmp_path / "source.index"

    def content():
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(done, total):
        raise KeyboardInterrupt

    build(location)
    undisturbed = content()
    shutil.rmtree(folder)
    with pytest.raises(KeyboardInterrupt):
        index.build(location, 1, interrupt)
    assert not folder.exists()
    assert build(location).notes == (
        f"read {num - GROUP} files",
        f"not read again, because size and times have not changed: {GROUP} files",
    )
    assert content() == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "source.index", "source.yaml", "t.csv"]
