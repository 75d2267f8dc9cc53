import errno
import json
import os
import pickle
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.folder import index
from aimv2.datasets.folder.records import FolderRecords
from aimv2.datasets.open import open_location, prepare_location
from tests.helpers.own_data import picture, settle, source, write


def opened(location):
    index.build(location, 1, lambda done, total: None)
    return FolderRecords(location)


@pytest.fixture
def plain(tmp_path):
    """Return the records of a folder whose captions are in files beside the images."""
    pictures = tmp_path / "pictures"
    for number, name in enumerate(["a.b.jpg", "cats/c.png", "cats/d.jpg", "dogs/old/e.webp"]):
        write(pictures / name, picture(number, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]))
    write(pictures / "a.b.txt", "an ä and a b")
    write(
        pictures / "cats/c.json",
        json.dumps({"caption": ["one", "two"], "score": 0.5, "nothing": None, "meta": {"width": 64}}),
    )
    write(pictures / "cats/c.alt.txt", "alternative")
    write(pictures / "cats/d.json", "{")
    write(pictures / "cats/d.txt", b"\xff broken")
    return opened(source(tmp_path, folder="pictures"))


def test_images_and_keys_are_the_files_and_their_paths(plain, tmp_path):
    assert [plain.key(row) for row in range(len(plain))] == ["a.b.jpg", "cats/c.png", "cats/d.jpg", "dogs/old/e.webp"]
    for row in range(len(plain)):
        assert plain.image(row) == (tmp_path / "pictures" / plain.key(row)).read_bytes()
    assert plain.block_rows == len(plain)


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


def test_a_folder_that_has_gone_ends_the_run(plain, tmp_path):
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(RunFailedError, match="pictures has gone") as failed:
        plain.image(0)
    assert failed.value.cause == "data"


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
    with pytest.raises(RunFailedError, match=f"{sentence} since .* was indexed; restore it, or run python"):
        plain.field(0, name[4:]) if name.startswith("a.b.") and name != "a.b.jpg" else plain.image(int("c" in name))


def test_a_file_with_other_content_and_the_same_time_is_not_read(plain, tmp_path):
    file = tmp_path / "pictures/a.b.txt"
    before = file.stat()
    write(file, "an Ä and a b")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RunFailedError, match=r"a\.b\.txt has changed since"):
        plain.field(0, "txt")


def test_a_file_that_was_edited_in_place_is_found_by_reading_or_by_comparing_every_file(plain, tmp_path):
    settle(tmp_path / "pictures")
    records = opened(source(tmp_path, folder="pictures"))
    write(tmp_path / "pictures/cats/c.alt.txt", "another text")
    records.check()
    with pytest.raises(UsageError, match=r"cats/c\.alt\.txt is changed"):
        records.check(every_file=True)
    with pytest.raises(RunFailedError, match=r"c\.alt\.txt has changed since") as failed:
        records.field(1, "alt.txt")
    assert failed.value.cause == "data"
    write(tmp_path / "pictures/cats/notes", "of no sample")
    with pytest.raises(UsageError, match=r"cats/c\.alt\.txt is changed"):
        records.check()


def test_a_file_that_was_replaced_is_found_at_the_start(plain, tmp_path):
    settle(tmp_path / "pictures")
    records = opened(source(tmp_path, folder="pictures"))
    write(tmp_path / "new", "an ö and a b").replace(tmp_path / "pictures/a.b.txt")
    with pytest.raises(UsageError, match=r"a\.b\.txt is changed"):
        records.check()


SIDES = {"held_out": {"field": "json.side", "values": ["test"]}}


@pytest.mark.parametrize(
    ("values", "is_found"),
    [
        (SIDES, True),
        ({"filters": {"json.side": {"any_of": ["train", "test"]}}}, True),
        ({"held_out": {"field": "folder", "values": ["b"]}}, False),
        ({"held_out": {"fraction": 0.5}}, False),
        ({"table": "t.csv", "held_out": {"field": "side", "values": ["test"]}}, False),
        ({"table": "t.csv", "filters": {"side": {"any_of": ["test", "train"]}}}, False),
        ({"table": "t.jsonl", "filters": {"side": {"any_of": ["test", "train"]}}}, False),
        ({"table": "t.jsonl"} | SIDES, True),
    ],
)
def test_a_file_that_says_which_samples_are_held_out_or_kept_is_always_compared(tmp_path, values, is_found):
    names = [f"{folder}/{number}" for folder in "ab" for number in range(4)]
    sides = ["train", "test"] * 4
    for name, side in zip(names, sides, strict=True):
        write(tmp_path / f"pictures/{name}.jpg", picture(int(name[2:])))
        write(tmp_path / f"pictures/{name}.txt", "a caption")
        write(tmp_path / f"pictures/{name}.json", json.dumps({"side": side}))
    settle(tmp_path / "pictures")
    rows = [(f"{name}.jpg", side) for name, side in zip(names, sides, strict=True)]
    write(tmp_path / "t.csv", "\n".join(["image,side", *map(",".join, rows)]))
    write(tmp_path / "t.jsonl", "\n".join(json.dumps({"image": name, "side": side}) for name, side in rows))
    location = source(tmp_path, folder="pictures", **values)
    prepare_location(location)
    records = open_location(location)
    records.check()
    write(tmp_path / "pictures/a/1.json", json.dumps({"side": "train"}))
    if is_found:
        with pytest.raises(UsageError, match=r"a/1\.json is changed"):
            records.check()
    else:
        records.check()
    with pytest.raises(UsageError, match=r"a/1\.json is changed"):
        records.check(every_file=True)


def test_a_link_to_a_file_in_the_folder_is_always_compared(tmp_path):
    write(tmp_path / "pictures/.store/1.jpg", picture(1))
    (tmp_path / "pictures/1.jpg").symlink_to(".store/1.jpg")
    settle(tmp_path / "pictures")
    records = opened(source(tmp_path, folder="pictures"))
    records.check()
    write(tmp_path / "new", picture(2)).replace(tmp_path / "pictures/.store/1.jpg")
    with pytest.raises(UsageError, match=r"1\.jpg is changed"):
        records.check()


def test_records_are_not_reopened_on_another_index(plain, tmp_path):
    write(tmp_path / "pictures/a.b.txt", "other")
    copy = pickle.dumps(plain)
    index.build(source(tmp_path, folder="pictures"), 1, lambda done, total: None)
    with pytest.raises(RunFailedError, match="was replaced by that of other data during the run"):
        pickle.loads(copy)


def test_an_image_that_became_a_link_to_elsewhere_is_not_read(plain, tmp_path):
    secret = write(tmp_path / "secret", picture(0))
    (tmp_path / "pictures/a.b.jpg").unlink()
    (tmp_path / "pictures/a.b.jpg").symlink_to(secret)
    with pytest.raises(BadSampleError) as error:
        plain.image(0)
    assert error.value.reason == "unsafe member"


def test_a_read_that_fails_for_a_moment_is_repeated(plain, monkeypatch):
    failures, real_open = [OSError(errno.EIO, "I/O error")], open

    def unsteady(file, *args, **kwargs):
        if str(file).endswith("a.b.jpg") and failures:
            raise failures.pop()
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", unsteady)
    assert plain.image(0) == picture(0)
    assert plain.retries == 1


def test_a_file_that_may_not_be_read_ends_the_run(plain, monkeypatch):
    def refused(file, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(RunFailedError, match=r"a\.b\.jpg cannot be read: Permission denied"):
        plain.image(0)
    assert plain.retries == 0


ROWS = [
    {"image": "a.jpg", "caption": "first, with a comma", "score": 1, "folder": "mine"},
    {"image": "b/c.jpg", "caption": None, "score": 2, "folder": None},
]


def write_table(path, kind):
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "jsonl":
        write(path, "\n".join(json.dumps(row) for row in ROWS))
    else:
        sign = {"csv": ",", "tsv": "\t"}[kind]
        lines = [ROWS[0], *[{key: "" if value is None else value for key, value in row.items()} for row in ROWS]]
        text = [sign.join(f'"{value}"' for value in row.values()) for row in lines[1:]]
        write(path, "\n".join([sign.join(ROWS[0]), *text]))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_fields_of_a_table_are_its_columns(tmp_path, kind):
    for number, row in enumerate(ROWS):
        write(tmp_path / "pictures" / str(row["image"]), picture(number))
    write(tmp_path / "pictures/b/c.txt", "beside")
    write_table(tmp_path / f"t.{kind}", kind)
    records = opened(source(tmp_path, folder="pictures", table=f"t.{kind}", short="caption"))
    assert [records.image(row) for row in (0, 1)] == [picture(0), picture(1)]
    assert [records.field(row, "caption") for row in (0, 1)] == ["first, with a comma", None]
    scores = ["1", "2"] if kind in ("csv", "tsv") else [1, 2]
    assert [records.field(row, "score") for row in (0, 1)] == scores
    assert records.field(0, "folder") == "mine"
    assert records.field(1, "txt") == "beside"
    assert records.field(0, "other") is None


def test_a_missing_image_of_a_table_is_a_bad_sample(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(0))
    write(tmp_path / "t.csv", "image,caption\na.jpg,one\nnone.jpg,two\n")
    records = opened(source(tmp_path, folder="pictures", table="t.csv", short="caption"))
    assert records.image(0) == picture(0)
    with pytest.raises(BadSampleError) as error:
        records.image(1)
    assert error.value.reason == "missing image"


def test_a_changed_or_missing_table_or_folder_is_found_at_opening(tmp_path):
    write(tmp_path / "pictures/a.jpg", picture(0))
    table = write(tmp_path / "t.csv", "image,caption\na.jpg,one\n")
    location = source(tmp_path, folder="pictures", table="t.csv", short="caption")
    opened(location)
    write(table, "image,caption\na.jpg,changed\n")
    with pytest.raises(UsageError, match=r"t\.csv has changed since it was indexed; run python -m aimv2 data index"):
        FolderRecords(location)
    table.unlink()
    with pytest.raises(UsageError, match=r"t\.csv is no file that can be read"):
        FolderRecords(location)
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(UsageError, match="pictures is no folder that can be read"):
        FolderRecords(location)


def test_only_images_of_the_table_count_when_a_folder_has_changed(tmp_path):
    for name in ("a/1.jpg", "b/2.jpg"):
        write(tmp_path / "pictures" / name, picture(1))
    write(tmp_path / "t.csv", "image,caption\na/1.jpg,one\nb/2.jpg,two\nc/3.jpg,three\nb/d.jpg,four\n")
    settle(tmp_path / "pictures")
    records = opened(source(tmp_path, folder="pictures", table="t.csv", short="caption"))
    records.check()
    write(tmp_path / "pictures/a/5.jpg", picture(5))
    records.check()
    write(tmp_path / "pictures/c/3.jpg", picture(3))
    (tmp_path / "pictures/b/2.jpg").rename(tmp_path / "pictures/b/d.jpg")
    with pytest.raises(UsageError, match=r"b/2\.jpg is missing; b/d\.jpg, c/3\.jpg are new"):
        records.check()
