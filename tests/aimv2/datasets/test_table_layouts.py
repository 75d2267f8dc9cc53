"""Parquet files and saved datasets with images, beside the tables that were written."""

import hashlib
import os

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.base import address
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.open import open_records, prepare_location
from aimv2.datasets.records import Records
from tests.helpers.own_data import picture, source, write
from tests.helpers.shards import build, indexed

NUM = 700  # more than are read at a time


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    datasets.disable_progress_bars()


def table_of(num=NUM, columns=None, features=None):
    """Return a dataset with images as the package stores them."""
    data = {
        "image": [{"bytes": picture(number), "path": f"{number}.jpg"} for number in range(num)],
        "caption": [f"caption {number}" for number in range(num)],
        "label": [number % 2 for number in range(num - 1)] + [-1],
    } | (columns or {})
    table = datasets.Dataset.from_dict(data)
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])} | (features or {})
    for name, kind in kinds.items():
        if kind is not None:
            table = table.cast_column(name, kind)
    return table


def save(path, num=7, columns=None, features=None, num_shards=2):
    table_of(num, columns, features).save_to_disk(path, num_shards=num_shards)


def save_as_a_hub_does(folder):
    """Write two files as ``datasets`` uploads them, with the names of classes in their metadata."""
    for number in range(2):
        part = table_of().shard(2, number, contiguous=True)
        part.to_parquet(folder / f"train-{number:05}-of-00002.parquet")


def save_as_img2dataset_does(path, numbers, **columns):
    """Write a file with the columns of img2dataset's output format ``parquet``."""
    table = {
        "url": [f"https://example.com/{number}" for number in numbers],
        "key": [f"{number:09}" for number in numbers],
        "caption": [f"caption {number}" for number in numbers],
        "jpg": [picture(number) if number % 3 else None for number in numbers],
    }
    pq.write_table(pa.table(table | columns), path, row_group_size=7)


def opened(folder, **values):
    return indexed(source(folder, **({"short": "caption"} | values)))


def has_its_files(records, folder):
    for part in records.parts():
        content = (folder / part.name).read_bytes()
        if (part.size, part.checksum) != (len(content), hashlib.sha256(content).hexdigest()):
            return False
    return True


@pytest.mark.parametrize("kind", ["hub", "saved"])
def test_rows_have_their_images_fields_and_names_of_classes(tmp_path, kind):
    if kind == "hub":
        save_as_a_hub_does(tmp_path)
        records = opened(tmp_path, parquet="*.parquet")
        assert [part.num_samples for part in records.parts()] == [350, 350]
        assert has_its_files(records, tmp_path)
    else:
        save(tmp_path / "saved", NUM, num_shards=3)
        records = opened(tmp_path, dataset="saved")
        assert [part.num_samples for part in records.parts()] == [234, 233, 233, 0, 0]
        assert has_its_files(records, tmp_path / "saved")
    assert len(records) == records.block_rows == NUM
    for row in (0, 255, 256, 349, 350, NUM - 1):
        assert records.image(row) == picture(row)
        assert records.field(row, "caption") == f"caption {row}"
        assert records.field(row, "label") == (None if row == NUM - 1 else "dog" if row % 2 else "cat")
        assert records.key(row) == str(row)
    assert records.field(0, "other") is None
    assert records.fields() == ["caption", "label"]
    records.check()


def test_images_may_be_bytes_and_fields_of_any_type(tmp_path):
    images = [None, *map(picture, range(1, 7))]
    columns = {"image": images, "texts": [["a", "b"]] * 7, "score": [0.5] * 6 + [None], "info": [{"w": 1}] * 7}
    save(tmp_path / "saved", 7, columns, {"image": None})
    records = opened(tmp_path, dataset="saved")
    assert [records.image(row) for row in range(1, 7)] == images[1:]
    with pytest.raises(BadSampleError) as error:
        records.image(0)
    assert error.value.reason == "missing image"
    assert [records.field(0, name) for name in ("texts", "score", "info")] == [["a", "b"], 0.5, {"w": 1}]
    assert records.field(6, "score") is None


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ({}, [str(row) for row in range(7)]),
        ({"key": list("abcdefg")}, list("abcdefg")),
        ({"__key__": list("abcdefg"), "id": list(range(10, 17))}, list("abcdefg")),
        ({"key": list("abcdefa"), "id": list(range(10, 17))}, [str(number) for number in range(10, 17)]),
        ({"id": [*"abcdef", None]}, [str(row) for row in range(7)]),
    ],
)
def test_the_key_is_a_column_of_unique_values_or_the_row(tmp_path, columns, keys):
    save(tmp_path / "saved", 7, columns)
    place = source(tmp_path, dataset="saved", short="caption")
    note = "no column of key, __key__, id has unique values, so keys are the numbers of the rows"
    assert [line for line in build(place) if "unique" in line] == ([note] if keys[0] == "0" else [])
    records = Records(place)
    assert [records.key(row) for row in range(7)] == keys
    assert records.key_hashes(np.array([6, 0])).tolist() == [address.hash64(keys[6]), address.hash64(keys[0])]


def test_files_of_img2dataset_are_read(tmp_path):
    for number in range(3):
        save_as_img2dataset_does(tmp_path / f"{number:05}.parquet", range(20 * number, 20 * number + 20))
        write(tmp_path / f"{number:05}_stats.json", "{}")
    records = opened(tmp_path, parquet="{00000..00002}.parquet")
    assert [records.key(row) for row in (0, 59)] == ["000000000", "000000059"]
    assert records.image(40) == picture(40)
    with pytest.raises(BadSampleError) as error:
        records.image(3)
    assert error.value.reason == "missing image"


def test_files_may_lack_columns_and_have_dictionaries(tmp_path):
    save_as_img2dataset_does(tmp_path / "a.parquet", range(5), caption=pa.nulls(5))
    kinds = pa.array(["one", "two"] * 5).dictionary_encode()
    save_as_img2dataset_does(tmp_path / "b.parquet", range(5, 15), kind=kinds)
    records = opened(tmp_path, parquet="*.parquet")
    assert [records.field(row, "caption") for row in (0, 4, 5)] == [None, None, "caption 5"]
    assert [records.field(row, "kind") for row in (4, 5, 6)] == [None, "one", "two"]
    assert records.image(7) == picture(7)


def test_a_source_of_parquet_files_opens(tmp_path):
    save_as_img2dataset_does(tmp_path / "a.parquet", range(60))
    description = source(tmp_path, parquet="a.parquet", short="caption", held_out={"fraction": 0.3})
    assert prepare_location(description)[1][0].startswith("images that were copied to the index: ")
    held_out = [row for row in range(60) if address.hash64(f"{row:09}") / 2**64 < 0.3]
    assert open_records(description)[1].held_out_M.tolist() == held_out


@pytest.mark.parametrize("edit", ["changed", "missing", "new"])
def test_files_that_are_not_as_they_were_indexed_are_refused(tmp_path, edit):
    for name in "ab":
        save_as_img2dataset_does(tmp_path / f"{name}.parquet", range(9))
    records = opened(tmp_path, parquet="*.parquet")
    digest = records.digest()
    if edit == "changed":
        save_as_img2dataset_does(tmp_path / "b.parquet", range(1, 10))
        os.utime(tmp_path / "b.parquet", (5, 5))
    elif edit == "missing":
        (tmp_path / "b.parquet").unlink()
    else:
        save_as_img2dataset_does(tmp_path / "c.parquet", range(9))
    for read in (lambda: Records(records._location), records.check):
        with pytest.raises(UsageError, match=r"indexed.* run python -m aimv2 data index"):
            read()
    assert records.image(1) == picture(1), "an open one reads what was indexed"
    assert opened(tmp_path, parquet="*.parquet").digest() != digest


def test_a_dataset_that_changed_is_found_at_opening_and_what_was_indexed_is_read(tmp_path):
    save(tmp_path / "saved")
    records = opened(tmp_path, dataset="saved")
    first = min((tmp_path / "saved").glob("*.arrow"))
    os.utime(first, (0, 0))
    for read in (records.check, lambda: Records(records._location)):
        with pytest.raises(UsageError, match=f"{first.name} has changed since it was indexed; run python -m aimv2"):
            read()
    assert records.image(0) == picture(0)


def test_names_of_classes_are_part_of_the_content(tmp_path):
    save(tmp_path / "saved")
    records = opened(tmp_path, dataset="saved")
    digest, about = records.digest(), tmp_path / "saved/dataset_info.json"
    about.write_text(about.read_text().replace('"cat"', '"CAT"'))
    with pytest.raises(UsageError, match=r"dataset_info\.json has changed since it was indexed"):
        records.check()
    again = opened(tmp_path, dataset="saved")
    assert again.field(0, "label") == "CAT"
    assert again.digest() != digest


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"image": "photo"}, r"a\.parquet has no column photo .* set image to one of url, key, caption, jpg"),
        ({"image": "caption"}, r"a\.parquet has string in the column caption with the bytes"),
        ({"parquet": "none.parquet"}, r"none\.parquet does not exist"),
        ({"parquet": "*.pq"}, r"no file matches .*\*\.pq"),
        ({"parquet": "https://example.com/a.parquet"}, "example.com/a.parquet is remote; download the files"),
        ({"parquet": ["a.parquet", "broken.parquet"]}, r"broken\.parquet cannot be read"),
        ({"parquet": ["a.parquet", "meta.parquet"]}, r"meta\.parquet has no column image or jpg .* one of caption"),
        ({"parquet": "empty.parquet"}, "there are no rows in"),
        ({"dataset": "none"}, r"none is not what datasets\.Dataset\.save_to_disk writes"),
        ({"dataset": "saved", "image": "photo"}, "has no column photo .* set image to one of image, caption"),
        ({"dataset": "saved", "image": "label"}, "has int64 in the column label with the bytes"),
        ({"dataset": "empty"}, "there are no rows in"),
        ({"dataset": "paths"}, "no row has the bytes of an image; save them"),
        ({"dataset": "splits"}, "has the splits train, test; name one, such as .*splits/train"),
        ({"dataset": "hostile"}, r"hostile/\.\./a\.parquet is not in .*hostile"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, values, sentence):
    save_as_img2dataset_does(tmp_path / "a.parquet", range(9))
    pq.write_table(pa.table({"caption": ["one"]}), tmp_path / "meta.parquet")
    save_as_img2dataset_does(tmp_path / "empty.parquet", range(0))
    write(tmp_path / "broken.parquet", b"PAR1 and so on")
    save(tmp_path / "saved")
    datasets.Dataset.from_dict({"image": []}).save_to_disk(tmp_path / "empty")
    nothing = [{"bytes": None, "path": "a.jpg"}] * 7
    table = pa.table({"image": pa.array(nothing, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    (tmp_path / "paths").mkdir()
    with pa.ipc.new_stream(str(tmp_path / "paths/data.arrow"), table.schema) as writer:
        writer.write_table(table)
    write(tmp_path / "paths/state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    write(tmp_path / "hostile/state.json", '{"_data_files": [{"filename": "../a.parquet"}]}')
    datasets.DatasetDict({"train": table_of(2), "test": table_of(2)}).save_to_disk(tmp_path / "splits")
    place = values if "dataset" in values else {"parquet": "a.parquet"} | values
    with pytest.raises(UsageError, match=sentence):
        build(source(tmp_path, short="caption", **place))
    assert not (tmp_path / "source.index").exists()
