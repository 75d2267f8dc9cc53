"""The same samples in a folder, in shards and in a dataset are read alike."""

import pickle

import datasets
import numpy as np
import pytest

from aimv2.base import address, order
from aimv2.datasets.description import Location
from aimv2.datasets.open import open_location, prepare_location
from aimv2.datasets.records import MAX_BLOCK_ROWS
from tests.helpers.own_data import picture, write
from tests.helpers.shards import write_tar

KEYS = ["b", "c", "a"]


def folder(where):
    for number, key in enumerate(KEYS):
        write(where / f"pictures/{key}.jpg", picture(number))
        write(where / f"pictures/{key}.txt", f"caption {key}")
    return Location(folder=str(where / "pictures"), index=str(where / "x.index"))


def shards(where):
    members = [
        member
        for number, key in enumerate(KEYS)
        for member in ((f"{key}.jpg", picture(number)), (f"{key}.txt", f"caption {key}".encode()))
    ]
    write_tar(where / "one.tar", members[:2])
    write_tar(where / "two.tar", members[2:])
    return Location(shards=(str(where / "one.tar"), str(where / "two.tar")), index=str(where / "x.index"))


def dataset(where):
    columns = {
        "key": KEYS,
        "image": [picture(number) for number in range(len(KEYS))],
        "txt": [f"caption {key}" for key in KEYS],
    }
    datasets.Dataset.from_dict(columns).save_to_disk(str(where / "saved"))
    return Location(dataset=str(where / "saved"), index=str(where / "x.index"))


@pytest.fixture(params=[folder, shards, dataset])
def records(request, tmp_path):
    location = request.param(tmp_path)
    prepare_location(location)
    return open_location(location)


def test_every_sample_has_its_own_image_and_caption(records):
    found = {}
    for row in range(len(records)):
        key = records.key(row).removesuffix(".jpg")
        found[key] = (records.image(row), records.field(row, "txt"))
    assert found == {key: (picture(number), f"caption {key}") for number, key in enumerate(KEYS)}


def test_hashes_are_those_of_the_keys(records):
    rows = np.array([2, 0])
    assert records.key_hashes(rows).tolist() == [address.hash64(records.key(row)) for row in rows.tolist()]


def test_records_can_be_sent_to_other_processes(records):
    again = pickle.loads(pickle.dumps(records))
    assert [again.image(row) for row in range(3)] == [records.image(row) for row in range(3)]
    assert again.parts() == records.parts()


def test_parts_have_all_samples(records):
    assert sum(part.num_samples for part in records.parts()) == len(records) == 3
    assert all(part.name and part.size > 0 for part in records.parts())


def test_the_permutations_that_the_order_keeps_are_small():
    assert order.KEPT * order._permutation(0, "test", 0, 0, MAX_BLOCK_ROWS).nbytes <= 2**25


def test_a_field_that_a_sample_lacks_is_none(records):
    assert records.field(0, "nothing") is None


def test_other_fields_are_named_if_none_is_or_contains_one(records):
    (first, *_) = records.fields()
    assert records.other_fields(first) == ""
    assert records.other_fields("nothing.at.all").split(", ")[0] in records.fields()
