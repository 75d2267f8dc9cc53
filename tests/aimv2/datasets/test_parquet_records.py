"""Parquet files with images, beside the tables that were written."""

import hashlib
import os

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.base import address
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.open import open_source, prepare_location
from aimv2.datasets.parquet_records import ParquetRecords
from tests.helpers.own_data import picture, source, write

NUM = 700  # more than are copied at a time


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    datasets.disable_progress_bars()


def build(location):
    calls = []
    indexed = ParquetRecords.build(location, 1, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (indexed.num_samples, indexed.num_samples)
    return indexed


def opened(folder, **values):
    location = source(folder, **({"parquet": "*.parquet", "short": "caption"} | values))
    build(location)
    return ParquetRecords(location)


def save_as_a_hub_does(folder):
    """Write two files as ``datasets`` uploads them, with the names of classes in their metadata."""
    columns = {
        "image": [{"bytes": picture(number), "path": f"{number}.jpg"} for number in range(NUM)],
        "caption": [f"caption {number}" for number in range(NUM)],
        "label": [number % 2 for number in range(NUM)],
    }
    found = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    found = found.cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
    folder.mkdir(exist_ok=True)
    for number in range(2):
        found.shard(2, number, contiguous=True).to_parquet(folder / f"train-{number:05}-of-00002.parquet")


def save_as_img2dataset_does(path, numbers, **columns):
    """Write a file with the columns of img2dataset's output format ``parquet``."""
    table = {
        "url": [f"https://example.com/{number}" for number in numbers],
        "key": [f"{number:09}" for number in numbers],
        "caption": [f"caption {number}" for number in numbers],
        "jpg": [picture(number) if number % 3 else None for number in numbers],
    }
    pq.write_table(pa.table(table | columns), path, row_group_size=7)


def test_files_of_a_hub_are_read(tmp_path):
    save_as_a_hub_does(tmp_path)
    records = opened(tmp_path)
    assert len(records) == NUM
    for row in (0, 255, 256, 349, 350, NUM - 1):
        assert records.image(row) == picture(row)
        assert records.field(row, "caption") == f"caption {row}"
        assert records.field(row, "label") == ("dog" if row % 2 else "cat")
        assert records.key(row) == str(row)
    assert records.field(0, "other") is None
    assert records.fields() == ["image", "caption", "label"]
    assert [part.num_samples for part in records.parts()] == [350, 350]
    for part in records.parts():
        content = (tmp_path / part.name).read_bytes()
        assert (part.size, part.checksum) == (len(content), hashlib.sha256(content).hexdigest())


def test_files_of_img2dataset_are_read(tmp_path):
    for number in range(3):
        save_as_img2dataset_does(tmp_path / f"{number:05}.parquet", range(20 * number, 20 * number + 20))
        write(tmp_path / f"{number:05}_stats.json", "{}")
    records = opened(tmp_path, parquet="{00000..00002}.parquet")
    assert [records.key(row) for row in (0, 59)] == ["000000000", "000000059"]
    assert records.key_hashes(pa.array([59]).to_numpy()).tolist() == [address.hash64("000000059")]
    assert records.image(40) == picture(40)
    with pytest.raises(BadSampleError) as error:
        records.image(3)
    assert error.value.reason == "missing image"


def test_files_may_lack_columns_and_have_dictionaries(tmp_path):
    save_as_img2dataset_does(tmp_path / "a.parquet", range(5), caption=pa.nulls(5))
    kinds = pa.array(["one", "two"] * 5).dictionary_encode()
    save_as_img2dataset_does(tmp_path / "b.parquet", range(5, 15), kind=kinds)
    records = opened(tmp_path)
    assert [records.field(row, "caption") for row in (0, 4, 5)] == [None, None, "caption 5"]
    assert [records.field(row, "kind") for row in (4, 5, 6)] == [None, "one", "two"]
    assert records.image(7) == picture(7)


def test_a_source_of_parquet_files_opens(tmp_path):
    save_as_img2dataset_does(tmp_path / "a.parquet", range(60))
    description = source(tmp_path, parquet="a.parquet", short="caption", held_out={"fraction": 0.3})
    notes = prepare_location(description).notes
    assert notes[0].startswith("copied 1 files to the index: ")
    found = open_source(description)
    held_out = [row for row in range(60) if address.hash64(f"{row:09}") / 2**64 < 0.3]
    assert found.held_out_M.tolist() == held_out


@pytest.mark.parametrize("edit", ["changed", "missing", "new"])
def test_files_that_are_not_as_they_were_indexed_are_refused(tmp_path, edit):
    for name in "ab":
        save_as_img2dataset_does(tmp_path / f"{name}.parquet", range(9))
    records = opened(tmp_path)
    digest = records.digest()
    if edit == "changed":
        save_as_img2dataset_does(tmp_path / "b.parquet", range(1, 10))
        os.utime(tmp_path / "b.parquet", (5, 5))
    elif edit == "missing":
        (tmp_path / "b.parquet").unlink()
    else:
        save_as_img2dataset_does(tmp_path / "c.parquet", range(9))
    with pytest.raises(
        UsageError, match=rf"are not as they were indexed .{'c' if edit == 'new' else 'b'}\.parquet is {edit}"
    ):
        ParquetRecords(records._location)
    assert records.image(1) == picture(1), "an open one reads what was indexed"
    assert opened(tmp_path).digest() != digest


@pytest.mark.parametrize(
    ("columns", "values", "sentence"),
    [
        ({}, {"image": "photo"}, r"a\.parquet has no column photo .* set image to one of url, key, caption, jpg"),
        ({}, {"image": "caption"}, r"a\.parquet has string in the column caption with the bytes"),
        ({}, {"parquet": "none.parquet"}, r"none\.parquet does not exist"),
        ({}, {"parquet": "*.pq"}, r"no file matches .*\*\.pq"),
        ({}, {"parquet": "https://example.com/a.parquet"}, "example.com/a.parquet is remote; download the files"),
        ({}, {"parquet": ["a.parquet", "broken.parquet"]}, r"broken\.parquet cannot be read"),
        ({}, {"parquet": ["a.parquet", "other.parquet"]}, "the files have a column of different types: .*caption"),
        ({}, {"parquet": ["a.parquet", "meta.parquet"]}, r"meta\.parquet has no column image or jpg .* one of caption"),
        ({}, {"parquet": ["cats.parquet", "cars.parquet"]}, r"cars\.parquet has other names of classes than .*cats\."),
        ({}, {"parquet": "empty.parquet"}, "there are no rows in"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, columns, values, sentence):
    save_as_img2dataset_does(tmp_path / "a.parquet", range(9))
    save_as_img2dataset_does(tmp_path / "other.parquet", range(9), caption=[{"of": 1}] * 9)
    pq.write_table(pa.table({"caption": ["one"]}), tmp_path / "meta.parquet")
    for name in ("cats", "cars"):
        classes = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[name, "other"])})
        rows = {"image": [{"bytes": picture(1), "path": None}], "label": [0]}
        datasets.Dataset.from_dict(rows, features=classes).to_parquet(tmp_path / f"{name}.parquet")
    save_as_img2dataset_does(tmp_path / "empty.parquet", range(0))
    write(tmp_path / "broken.parquet", b"PAR1 and so on")
    with pytest.raises(UsageError, match=f"^parquet: .*{sentence}"):
        build(source(tmp_path, **({"parquet": "a.parquet", "short": "caption"} | values)))
    assert not (tmp_path / "source.index").exists()
