"""Folders of images, with files beside them or a table: what is indexed, and how it is read."""

import csv
import errno
import json
import os
import pickle
import random
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.folder_layout import GROUP, checksums, is_within, list_folder, read_rows
from aimv2.datasets.index import stamp_at
from aimv2.datasets.records import Records
from tests.helpers.own_data import picture, source, write
from tests.helpers.shards import build, indexed


def keys(location):
    records = indexed(location)
    return [records.key(row) for row in range(len(records))]


def test_images_are_all_files_with_their_extensions_in_the_order_of_their_paths(tmp_path):
    names = ["b.jpg", "a.PNG", "a/x.webp", "a/b/c.jpeg", "a-b/y.jpg", "ä/ö.png", "a0.jpg", "a/a.b.jpg"]
    random.Random(0).shuffle(names)
    for name in [*names, "c.gif", "notes.txt", "jpg", ".hidden.jpg", ".cache/d.jpg", "e.jpg.part"]:
        write(tmp_path / "pictures" / name, picture(1))
    location = source(tmp_path, folder="pictures")
    left_out = "files left out, because they are none of jpg, jpeg, png, webp: 1 gif"
    assert build(location) == [left_out, f"read {len(names)} files"]
    assert keys(location) == sorted(names)
    assert keys(source(tmp_path, folder="pictures", image="gif")) == ["c.gif"]


def test_links_that_lead_out_of_the_folder_are_not_followed_and_the_folder_itself_may_be_one(tmp_path):
    inside = write(tmp_path / "disk/a.jpg", picture(1))
    (tmp_path / "pictures").symlink_to(tmp_path / "disk")
    outside = write(tmp_path / "secret/b.jpg", picture(2))
    (tmp_path / "pictures/in.jpg").symlink_to(inside)
    (tmp_path / "pictures/out.jpg").symlink_to(outside)
    (tmp_path / "pictures/broken.jpg").symlink_to(tmp_path / "pictures/none.jpg")
    (tmp_path / "pictures/folder").symlink_to(outside.parent)
    (tmp_path / "pictures/loop").symlink_to(tmp_path / "pictures")
    location = source(tmp_path, folder="pictures")
    *notes, _ = build(location)
    assert keys(location) == ["a.jpg", "in.jpg"]
    assert len(notes) == 1
    assert notes[0].startswith("3 links were not followed")
    assert [Records(location).image(row) for row in (0, 1)] == [picture(1)] * 2


@pytest.mark.parametrize("workers", [1, 3])
def test_a_table_gives_rows_in_its_order_and_notes_missing_images(tmp_path, workers):
    for name in ("a.jpg", "b/c.jpg", "not in the table.jpg"):
        write(tmp_path / "pictures" / name, picture(1))
    write(tmp_path / "t.csv", "image,caption\nb/c.jpg,one\nnone.jpg,two\n./a.jpg,three\n")
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    missing = f"1 of 3 images of the table are missing in {tmp_path}/pictures"
    assert build(location, workers) == [missing, "read 2 files"]
    again = build(location, workers)
    assert again[1:] == ["read 0 files", "not read again, because size and times have not changed: 2 files"]
    assert keys(location) == ["b/c.jpg", "none.jpg", "a.jpg"]
    with pytest.raises(BadSampleError, match="missing image"):
        Records(location).image(1)


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
            r"rows 1 and 2 of .*t\.csv have the same key 'a\.jpg'; give each row a unique value in a column named",
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
    assert keys(source(tmp_path, folder="link", table="t.csv", short="caption")) == ["b/c.jpg", "d.jpg"]


def test_rows_of_one_image_are_samples_if_they_have_keys(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(1))
    write(tmp_path / "t.csv", "key,image,caption\nx,a.jpg,one\ny,a.jpg,two\n")
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    assert keys(location) == ["x", "y"]
    assert [Records(location).image(row) for row in (0, 1)] == [picture(1)] * 2


def test_a_table_without_the_column_of_images_names_its_columns(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(1))
    write(tmp_path / "t.csv", "file,caption\na.jpg,one\n")
    with pytest.raises(UsageError, match="has no column 'image' with the paths of images; it has file, caption"):
        build(source(tmp_path, folder="pictures", table="t.csv"))
    pq.write_table(pa.table({"image": [picture(1)], "caption": ["one"]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"it has caption; images inside a table are packed into shards \(docs/data"):
        build(source(tmp_path, folder="pictures", table="t.parquet"))
    assert keys(source(tmp_path, folder="pictures", table="t.csv", image="file")) == ["a.jpg"]


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


def test_parts_tell_which_subfolder_changed(tmp_path):
    for name in ("a/1.jpg", "a/b/2.jpg", "c/3.jpg", "4.jpg"):
        write(tmp_path / "pictures" / name, picture(int(name[-5])))
    write(tmp_path / "pictures/c/3.txt", "three")
    location = source(tmp_path, folder="pictures")

    def parts():
        build(location)
        return {part.name: part for part in Records(location).parts()}

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


NUM = 3 * GROUP  # so that the files are of several groups


@pytest.fixture
def pictures(tmp_path):
    """Return the location of a folder of many files with a table, and what an undisturbed call writes."""
    for number in range(NUM):
        write(tmp_path / f"pictures/{number % 7}/{number}.jpg", f"image {number}")
    write(tmp_path / "t.csv", "\n".join(["image", *(f"{number % 7}/{number}.jpg" for number in range(NUM))]))
    location = source(tmp_path, folder="pictures", table="t.csv")
    build(location)
    undisturbed = content(location)
    shutil.rmtree(location.index)
    return location, undisturbed


def content(location):
    return {path.name: path.read_bytes() for path in Path(location.index).iterdir()}


def interrupt(done, total):
    if done > GROUP:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("workers", "is_broken"), [(1, False), (2, False), (1, True)])
def test_an_interrupted_index_is_resumed(pictures, tmp_path, workers, is_broken):
    location, undisturbed = pictures
    with pytest.raises(KeyboardInterrupt):
        build(location, workers, on_progress=interrupt)
    assert not Path(location.index).exists()
    if is_broken:
        write(Path(f"{location.index}.unfinished/files.arrow"), "cut")
    known = f"not read again, because size and times have not changed: {2 * GROUP} files"
    notes = [f"read {NUM} files"] if is_broken else [f"read {NUM - 2 * GROUP} files", known]
    assert build(location, workers) == notes
    assert content(location) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "source.index", "source.yaml", "t.csv"]


def test_only_files_with_another_stamp_are_read_again(tmp_path):
    for number in range(9):
        write(tmp_path / f"pictures/{number}.jpg", f"image {number}")
    location = source(tmp_path, folder="pictures")
    build(location)
    before = Records(location).parts()
    file = tmp_path / "pictures/3.jpg"
    status = file.stat()
    write(file, "IMAGE 3")  # of equal length, and the time is set back
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert build(location) == ["read 1 files", "not read again, because size and times have not changed: 8 files"]
    assert Records(location).parts() != before
    assert Records(location).image(3) == b"IMAGE 3"


def test_a_file_that_cannot_be_read_leaves_nothing(tmp_path, monkeypatch):
    write(tmp_path / "pictures/a.jpg", picture(1))
    real_open = open

    def refused(file, *args, **kwargs):
        if str(file).endswith(".jpg"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(UsageError, match=r"\.jpg cannot be read: Permission denied"):
        build(source(tmp_path, folder="pictures"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "source.yaml"]


@pytest.fixture
def plain(tmp_path):
    """Return the records of a folder whose captions are in files beside the images."""
    pictures = tmp_path / "pictures"
    for number, name in enumerate(["a.b.jpg", "cats/c.png", "cats/d.jpg", "dogs/old/e.webp"]):
        write(pictures / name, picture(number, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]))
    write(pictures / "a.b.txt", "an ä and a b")
    fields = {"caption": ["one", "two"], "score": 0.5, "nothing": None, "meta": {"width": 64}}
    write(pictures / "cats/c.json", json.dumps(fields))
    write(pictures / "cats/c.alt.txt", "alternative")
    write(pictures / "cats/d.json", "{")
    write(pictures / "cats/d.txt", b"\xff broken")
    return indexed(source(tmp_path, folder="pictures"))


@pytest.mark.parametrize(
    ("row", "name", "value"),
    [
        (0, "txt", "an ä and a b"),
        (0, "folder", None),
        (0, "json.caption", None),
        (1, "json.caption", ["one", "two"]),
        (1, "json.score", 0.5),
        (1, "json.nothing", None),
        (1, "json.other", None),
        (1, "alt.txt", "alternative"),
        (1, "folder", "cats"),
        (1, "json.meta.width", 64),
        (1, "json.meta.width.more", None),
        (3, "txt", None),
        (3, "folder", "old"),
        (3, "../cats/d.txt", None),
    ],
)
def test_fields_are_files_beside_the_image(plain, row, name, value):
    assert plain.field(row, name) == value


@pytest.mark.parametrize(("name", "reason"), [("json.caption", "broken json"), ("txt", "missing caption")])
def test_a_broken_file_beside_the_image_is_a_bad_sample(plain, name, reason):
    with pytest.raises(BadSampleError) as error:
        plain.field(2, name)
    assert error.value.reason == reason


@pytest.mark.parametrize("at", ["reading", "check"])
@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.b.jpg", b"cut", r"a\.b\.jpg (is|has) changed"),
        ("a.b.jpg", picture(9), r"a\.b\.jpg (is|has) changed"),
        ("cats/c.png", None, r"cats/c.*( are| is) missing"),
        ("a.b.txt", "an ö and a b", r"a\.b\.txt (is|has) changed"),
        ("a.b.txt", None, r"a\.b\.txt is missing"),
        ("a.b.json", "{}", r"a\.b\.json is new"),
    ],
)
def test_a_file_that_is_not_as_it_was_indexed_is_refused(plain, tmp_path, name, content, sentence, at):
    file = tmp_path / "pictures" / name
    file.unlink(missing_ok=True)
    if content is not None:
        write(file, content)
    if at == "check":
        with pytest.raises(UsageError, match=f"is not as it was indexed .{sentence}.; restore it, or run python"):
            plain.check()
        return
    if "new" in sentence:
        assert plain.field(0, name[4:]) is None, "what was not indexed is not read"
        return
    with pytest.raises(
        RunFailedError, match=r"(has changed since|cannot be read: No such file).* run python"
    ) as failed:
        plain.field(0, name[4:]) if name.startswith("a.b.") and name != "a.b.jpg" else plain.image(int("c" in name))
    assert failed.value.cause == "data"


def test_a_link_to_a_file_in_the_folder_is_compared_too(tmp_path):
    write(tmp_path / "pictures/.store/1.jpg", picture(1))
    (tmp_path / "pictures/1.jpg").symlink_to(".store/1.jpg")
    records = indexed(source(tmp_path, folder="pictures"))
    records.check()
    write(tmp_path / "pictures/.store/1.jpg", picture(2) + b"more")
    with pytest.raises(UsageError, match=r"1\.jpg is changed"):
        records.check()


def test_records_are_not_reopened_on_another_index(plain, tmp_path):
    write(tmp_path / "pictures/a.b.txt", "other")
    copy = pickle.dumps(plain)
    build(source(tmp_path, folder="pictures"))
    with pytest.raises(RunFailedError, match="was replaced by that of other data during the run"):
        pickle.loads(copy)


def test_an_image_that_became_a_link_to_elsewhere_is_not_read(plain, tmp_path):
    secret = write(tmp_path / "secret", picture(3))
    (tmp_path / "pictures/a.b.jpg").unlink()
    (tmp_path / "pictures/a.b.jpg").symlink_to(secret)
    with pytest.raises(RunFailedError, match=r"a\.b\.jpg has changed since it was indexed"):
        plain.image(0)
    with pytest.raises(UsageError, match=r"a\.b\.jpg, a\.b\.txt are missing"):
        plain.check()


def test_a_read_that_fails_for_a_moment_is_repeated(plain, monkeypatch):
    failures, real_open = [OSError(errno.EIO, "I/O error")], os.open

    def unsteady(file, *args, **kwargs):
        if str(file).endswith("a.b.jpg") and failures:
            raise failures.pop()
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr("os.open", unsteady)
    assert plain.image(0) == picture(0)
    assert plain.retries == 1


ROWS = [
    {"image": "a.jpg", "caption": "first, with a comma", "score": 1, "folder": "mine"},
    {"image": "b/c.jpg", "caption": None, "score": 2, "folder": None},
]


def write_table(path, kind):
    rows = pd.DataFrame(ROWS)
    if kind == "parquet":
        rows.to_parquet(path)
    elif kind == "jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, sep={"csv": ",", "tsv": "\t"}[kind], index=False)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_fields_of_a_table_are_its_columns(tmp_path, kind):
    for number, row in enumerate(ROWS):
        write(tmp_path / "pictures" / str(row["image"]), picture(number))
    write_table(tmp_path / f"t.{kind}", kind)
    records = indexed(source(tmp_path, folder="pictures", table=f"t.{kind}", short="caption"))
    assert [records.image(row) for row in (0, 1)] == [picture(0), picture(1)]
    assert [records.field(row, "caption") for row in (0, 1)] == ["first, with a comma", None]
    scores = ["1", "2"] if kind in ("csv", "tsv") else [1, 2]
    assert [records.field(row, "score") for row in (0, 1)] == scores
    assert records.field(0, "folder") == "mine"
    assert records.field(0, "other") is None


def test_a_changed_or_missing_table_or_folder_is_found(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(0))
    table = write(tmp_path / "t.csv", "image,caption\na.jpg,one\n")
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    indexed(location)
    write(table, "image,caption\na.jpg,changed\n")
    with pytest.raises(UsageError, match=r"t\.csv has changed since it was indexed; run python -m aimv2 data index"):
        Records(location)
    table.unlink()
    with pytest.raises(UsageError, match=r"t\.csv has changed since it was indexed"):
        Records(location)
    write(table, "image,caption\na.jpg,one\n")
    records = indexed(location)
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(UsageError, match="pictures is no folder that can be read"):
        records.check()


def test_only_images_of_the_table_count_when_a_folder_has_changed(tmp_path):
    for name in ("a/1.jpg", "b/2.jpg"):
        write(tmp_path / "pictures" / name, picture(1))
    write(tmp_path / "t.csv", "image,caption\na/1.jpg,one\nb/2.jpg,two\nc/3.jpg,three\nb/d.jpg,four\n")
    records = indexed(source(tmp_path, folder="pictures", table="t.csv", short="caption"))
    records.check()
    write(tmp_path / "pictures/a/5.jpg", picture(5))
    records.check()
    write(tmp_path / "pictures/c/3.jpg", picture(3))
    (tmp_path / "pictures/b/2.jpg").rename(tmp_path / "pictures/b/d.jpg")
    with pytest.raises(UsageError, match=r"b/2\.jpg is missing; b/d\.jpg, c/3\.jpg are new"):
        records.check()


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=9)
TEXT_ROWS = st.lists(st.fixed_dictionaries({"image": WORDS, "caption": WORDS, "score": WORDS}), min_size=1, max_size=5)


def rows_of(path):
    return [row for rows in read_rows(path) for row in rows]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
@example(rows=[{"image": "a.jpg", "caption": "007", "score": "0.5"}, {"image": "", "caption": "x", "score": ""}])
@given(rows=TEXT_ROWS)
def test_text_tables_are_read_as_the_csv_module_wrote_them(tmp_path_factory, suffix, delimiter, rows):
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    # QUOTE_ALL writes an empty text as "", which means a missing value here.
    assert rows_of(path) == [{name: value or None for name, value in row.items()} for row in rows]


def test_other_tables_keep_their_types_and_leave_bytes_out(tmp_path):
    rows = [{"image": "a", "captions": ["x", "y"]}, {"image": "b", "captions": "z", "n": {"m": 1}}]
    path = write(tmp_path / "t.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    assert rows_of(path) == rows
    columns = {"image": ["a", "b"], "score": [0.5, None], "captions": [["x"], []], "content": [b"1", b"2"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet") == [
        {"image": "a", "score": 0.5, "captions": ["x"]},
        {"image": "b", "score": None, "captions": []},
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.xlsx", "", r"must end in one of \.csv, \.tsv"),
        ("t.csv", "a,b\n1,2\n3\n", "cannot be read"),
        ("t.csv", "", "cannot be read"),
        ("t.csv", b"image\n\xff\xff\n", "cannot be read"),
        ("t.jsonl", '{"image": "a"}\n{"image": \n', "line 2 of .* is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 of .* must be a JSON object"),
        ("t.jsonl", b"\xff\n", "cannot be read"),
        ("t.parquet", "PAR1", "cannot be read"),
        ("missing.csv", None, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(UsageError, match=f"^table: .*{sentence}"):
        rows_of(tmp_path / name)


def test_half_a_character_in_a_table_does_no_harm(tmp_path):
    """JSON can spell what UTF-8 cannot."""
    write(tmp_path / "pictures/a.jpg", picture(0))
    write(tmp_path / "t.jsonl", '{"image": "a.jpg", "caption": "\\ud800 dog"}')
    location = source(tmp_path, folder="pictures", table="t.jsonl", short="caption")
    assert indexed(location).field(0, "caption") == "\ud800 dog"
    for row in ('{"image": "a.jpg", "key": "\\ud800"}', '{"image": "\\ud800.jpg"}'):
        write(tmp_path / "t.jsonl", row)
        with pytest.raises(UsageError, match=r"row 1 of .*(has a key that is no valid text|has no path of an image)"):
            build(location)


# Listings of folders with links, and checksums of files


def test_all_files_of_samples_are_listed_in_the_order_of_folders(tmp_path):
    stems = [f"{folder}{stem}" for folder in ("", "a/", "a/b/", "a-b/", "ä/", "z/y/x/") for stem in ("1", "p.2", "p-3")]
    content = [f"{stem}.{end}" for stem in stems for end in ("jpg", "txt", "caption.txt")]
    random.Random(0).shuffle(content)
    for name in content:
        write(tmp_path / name, name)
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


def test_a_file_that_changes_while_it_is_indexed_is_refused(tmp_path):
    write(tmp_path / "a.jpg", "image")
    stamps = list_folder(str(tmp_path)).stamps
    write(tmp_path / "a.jpg", "another content")
    with pytest.raises(UsageError, match="changed while it was indexed; index again when it is complete"):
        list(checksums(str(tmp_path), stamps, 1, lambda *_: None))
