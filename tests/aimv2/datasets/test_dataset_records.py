import hashlib
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

from aimv2.base import address
from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets import dataset_records
from aimv2.datasets.dataset_records import DatasetRecords
from tests.helpers.own_data import picture, settle, source, write

NUM = 7


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    datasets.disable_progress_bars()


def save(path, columns=None, *, features=None, num_shards=2, image=None):
    image = image or [{"bytes": picture(number), "path": None} for number in range(NUM)]
    kinds = {"image": datasets.Image()} | (features or {})
    data = {"image": image, "caption": [f"caption {number}" for number in range(NUM)]} | (columns or {})
    found = datasets.Dataset.from_dict(data)
    for name, kind in kinds.items():
        if kind is not None:
            found = found.cast_column(name, kind)
    found.save_to_disk(path, num_shards=num_shards)


def build(location, workers=1):
    return dataset_records.DatasetRecords.build(location, workers, lambda done, total: None)


def opened(tmp_path, **values):
    location = source(tmp_path, **({"dataset": "saved", "short": "caption"} | values))
    build(location)
    return DatasetRecords(location)


@pytest.mark.parametrize("kind", ["Image", "bytes", "paths"])
def test_images_are_bytes_whatever_the_column_holds(tmp_path, kind):
    if kind == "Image":
        save(tmp_path / "saved")
    elif kind == "bytes":
        save(tmp_path / "saved", image=[picture(number) for number in range(NUM)], features={"image": None})
    else:
        save(tmp_path / "saved", image=[f"files/{number}.jpg" for number in range(NUM)], features={"image": None})
        for number in range(NUM):
            write(tmp_path / "saved/files" / f"{number}.jpg", picture(number))
    records = opened(tmp_path)
    assert [records.image(row) for row in range(len(records))] == [picture(number) for number in range(NUM)]
    assert records.block_rows == NUM


def test_fields_are_columns_and_labels_have_the_names_of_their_classes(tmp_path):
    columns = {"label": [0, 1, 0, 1, 0, 1, -1], "texts": [["a", "b"]] * NUM, "score": [0.5] * (NUM - 1) + [None]}
    save(tmp_path / "saved", columns, features={"label": datasets.ClassLabel(names=["cat", "dog"])})
    records = opened(tmp_path)
    assert [records.field(row, "label") for row in range(NUM)] == ["cat", "dog"] * 3 + [None]
    assert records.field(3, "caption") == "caption 3"
    assert records.field(3, "texts") == ["a", "b"]
    assert (records.field(0, "score"), records.field(NUM - 1, "score")) == (0.5, None)
    assert records.field(0, "other") is None


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ({}, [str(row) for row in range(NUM)]),
        ({"key": list("abcdefg")}, list("abcdefg")),
        ({"__key__": list("abcdefg"), "id": list(range(10, 17))}, list("abcdefg")),
        ({"key": list("abcdefa"), "id": list(range(10, 17))}, [str(number) for number in range(10, 17)]),
        ({"id": [*"abcdef", None]}, [str(row) for row in range(NUM)]),
    ],
)
def test_the_key_is_a_column_of_unique_values_or_the_row(tmp_path, columns, keys):
    save(tmp_path / "saved", columns)
    records = opened(tmp_path)
    assert [records.key(row) for row in range(NUM)] == keys
    hash_B = records.key_hashes(np.array([6, 0]))
    assert hash_B.dtype == np.uint64
    assert hash_B.tolist() == [address.hash64(keys[6]), address.hash64(keys[0])]


def test_rows_as_keys_are_noted(tmp_path):
    save(tmp_path / "saved")
    indexed = build(source(tmp_path, dataset="saved", short="caption"))
    assert indexed.num_samples == NUM
    assert indexed.notes == ("no column of key, __key__, id has unique values, so keys are the numbers of the rows",)


def test_parts_are_the_files_in_the_order_of_their_rows(tmp_path):
    save(tmp_path / "saved", num_shards=3)
    parts = opened(tmp_path).parts()
    assert [part.num_samples for part in parts] == [3, 2, 2, 0, 0]
    assert [part.name for part in parts[3:]] == ["dataset_info.json", "state.json"]
    for part in parts:
        content = (tmp_path / "saved" / part.name).read_bytes()
        assert (part.size, part.checksum) == (len(content), hashlib.sha256(content).hexdigest())


def test_images_outside_the_dataset_are_refused_when_indexed_and_when_read(tmp_path):
    outside = str(write(tmp_path / "out.jpg", picture(0)))
    paths = [{"bytes": picture(1), "path": outside}] * (NUM - 1) + [{"bytes": None, "path": outside}]
    features = {"image": datasets.Image(decode=False)}
    save(tmp_path / "all", image=paths, features=features)  # save_to_disk stores the content of files
    assert opened(tmp_path, dataset="all").image(NUM - 1) == picture(0)
    save(tmp_path / "saved", image=["a.jpg"] * (NUM - 1) + [outside], features={"image": None})
    with pytest.raises(UsageError, match=f"the image of row {NUM - 1}, '{outside}', is not in .*saved"):
        build(source(tmp_path, dataset="saved", short="caption"))


def test_a_missing_image_is_a_bad_sample(tmp_path):
    names = ["none.jpg", "folder", None, "link.jpg", *["a.jpg"] * (NUM - 4)]
    save(tmp_path / "saved", image=names, features={"image": None})
    (tmp_path / "saved/folder").mkdir()
    records = opened(tmp_path)
    (tmp_path / "saved/link.jpg").symlink_to(write(tmp_path / "out.jpg", picture(0)))
    reasons = ("missing image", "missing image", "missing image", "unsafe member")
    for row, reason in enumerate(reasons):
        with pytest.raises(BadSampleError) as error:
            records.image(row)
        assert error.value.reason == reason


def test_a_dataset_that_changed_is_found_at_opening_and_while_it_is_read(tmp_path):
    save(tmp_path / "saved")
    records = opened(tmp_path)
    (first, *_) = sorted((tmp_path / "saved").glob("*.arrow"))
    os.utime(first, (0, 0))
    with pytest.raises(RunFailedError, match=f"{first.name} has changed since it was indexed; run python"):
        records.image(0)
    assert records.image(NUM - 1) == picture(NUM - 1)
    with pytest.raises(UsageError, match="saved has changed since it was indexed; run python -m aimv2 data index"):
        DatasetRecords(source(tmp_path, dataset="saved", short="caption"))


def test_images_beside_the_table_are_part_of_the_content(tmp_path):
    paths = [str(tmp_path / "saved/files" / f"{number}.jpg") for number in range(NUM)]
    save(tmp_path / "saved", image=paths, features={"image": None})
    for number, path in enumerate(paths):
        write(Path(path), picture(number))
    records = opened(tmp_path)
    assert [records.image(row) for row in range(NUM)] == [picture(number) for number in range(NUM)]
    records.check()
    digest = records.digest()
    write(Path(paths[2]), picture(9))
    with pytest.raises(RunFailedError, match=r"2\.jpg has changed since .*saved was indexed"):
        records.image(2)
    with pytest.raises(UsageError, match=r"saved is not as it was indexed .files/2\.jpg is changed.; restore it"):
        records.check()
    again = opened(tmp_path)
    assert again.digest() != digest
    assert again.image(2) == picture(9)


def test_images_beside_the_table_that_are_edited_in_place_are_found_by_comparing_every_file(tmp_path):
    paths = [write(tmp_path / "saved/files" / f"{number}.jpg", picture(number)) for number in range(NUM)]
    save(tmp_path / "saved", image=list(map(str, paths)), features={"image": None})
    settle(tmp_path / "saved")
    records = opened(tmp_path)
    write(paths[2], picture(9))
    records.check()
    with pytest.raises(UsageError, match=r"files/2\.jpg is changed"):
        records.check(every_file=True)
    write(tmp_path / "new.jpg", picture(8)).replace(paths[3])
    with pytest.raises(UsageError, match=r"files/2\.jpg, files/3\.jpg are changed"):
        records.check()


def test_names_of_classes_are_part_of_the_content(tmp_path):
    save(tmp_path / "saved", {"label": [0] * NUM}, features={"label": datasets.ClassLabel(names=["cat", "dog"])})
    records = opened(tmp_path)
    digest, about = records.digest(), tmp_path / "saved/dataset_info.json"
    about.write_text(about.read_text().replace('"cat"', '"CAT"'))
    with pytest.raises(UsageError, match=r"dataset_info\.json has changed since it was indexed"):
        records.check()
    assert opened(tmp_path).field(0, "label") == "CAT"
    assert opened(tmp_path).digest() != digest


def test_splits_are_named(tmp_path):
    save(tmp_path / "one")
    one = datasets.load_from_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "saved")
    with pytest.raises(UsageError, match=r"has the splits train, test; name one, such as .*saved/train"):
        build(source(tmp_path, dataset="saved", short="caption"))
    assert len(opened(tmp_path, dataset="saved/train")) == NUM


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dataset": "none"}, r"none is not what datasets\.Dataset\.save_to_disk writes"),
        ({"dataset": "saved", "image": "photo"}, "has no column 'photo'; set image to one of image, caption"),
        ({"dataset": "saved", "image": "number"}, "the column 'number' of .* has int64, not images, bytes or paths"),
        ({"dataset": "empty"}, "empty has no rows"),
    ],
)
def test_what_is_no_dataset_of_images_is_one_sentence(tmp_path, values, sentence):
    save(tmp_path / "saved", {"number": list(range(NUM))})
    datasets.Dataset.from_dict({"image": []}).save_to_disk(tmp_path / "empty")
    with pytest.raises(UsageError, match=f"^dataset: .*{sentence}"):
        build(source(tmp_path, short="caption", **values))


def test_without_the_package_the_error_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['datasets'] = None\n"
        "from aimv2.datasets import dataset_records\n"
        "from aimv2.datasets.description import Location\n"
        "dataset_records.DatasetRecords.build(Location(dataset='saved', index='i'), 1, lambda done, total: None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert "dataset needs the package datasets; run: pip install 'aimv2-ablations[datasets]'" in done.stderr
