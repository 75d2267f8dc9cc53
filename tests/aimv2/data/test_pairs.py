import os

import numpy as np
import pytest
import torch

from aimv2.data.pairs import Joined, scratch, usable_captions
from tests.helpers.files import files_limited_to

ROWS = np.array([3, 401, 5, 799])


def test_joined_pairs_are_those_of_their_sources(pairs):
    emoji, icons = (pairs.train._parts[number] for number in (0, 1))
    joined = Joined({"emoji": emoji, "icons": icons})
    assert len(joined) == 800
    assert {name: (rows[0], rows[-1]) for name, rows in joined.rows.items()} == {"emoji": (0, 399), "icons": (400, 799)}
    own = [(emoji, 3), (icons, 1), (emoji, 5), (icons, 399)]
    assert joined.keys(ROWS) == [part.keys(np.array([row]))[0] for part, row in own]
    assert joined.captions(ROWS, "dense") == [part.captions(np.array([row]), "dense")[0] for part, row in own]
    assert joined.sample_ids(ROWS).tolist() == [int(part.sample_ids(np.array([row]))[0]) for part, row in own]
    assert [joined.scene(row) for row in ROWS] == [part.scene(row) for part, row in own]
    for image, (part, row) in zip(joined.images(ROWS), own, strict=True):
        np.testing.assert_array_equal(image, part.images(np.array([row]))[0])


def test_sample_ids_of_all_parts_are_different(pairs):
    parts = (pairs.train, pairs.held_out, pairs.unseen)
    ids = [int(value) for part in parts for value in part.sample_ids(np.arange(800))]
    assert len(set(ids)) == len(ids)


def test_subsets_are_nested_and_keep_pictures_captions_and_scenes_together(pairs):
    small, large = pairs.held_out.subset(10), pairs.held_out.subset(50)
    assert (len(small), len(large)) == (10, 50)
    assert set(small.keys(np.arange(10))) < set(large.keys(np.arange(50)))
    assert len(pairs.train.subset(10_000)) == len(pairs.train)

    subset = pairs.held_out.subset(20)
    row_of = {key: row for row, key in enumerate(pairs.held_out.keys(np.arange(len(pairs.held_out))))}
    rows = np.arange(20)
    before = np.array([row_of[key] for key in subset.keys(rows)])
    np.testing.assert_array_equal(subset.images(rows), pairs.held_out.images(before))
    assert usable_captions(subset, rows, "short") == usable_captions(pairs.held_out, before, "short")
    assert [subset.scene(row) for row in rows] == [pairs.held_out.scene(row) for row in before]
    assert subset.sample_ids(rows).tolist() == pairs.held_out.sample_ids(before).tolist()


@pytest.mark.parametrize("in_memory", [23, 24])
def test_an_array_holds_what_is_written_wherever_it_is(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = scratch((3, 4), np.float16, in_memory)
    assert isinstance(found, np.memmap) == (in_memory < 24)
    torch.from_numpy(found)[:] = torch.arange(12).view(3, 4)
    assert found.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert (found.shape, found.dtype) == ((3, 4), np.float16)
    assert os.listdir(tmp_path) == [], "the file has no name"


def test_a_file_for_which_there_is_no_room_is_refused_before_it_is_written():
    with files_limited_to(1000), pytest.raises(OSError, match="File too large"):
        scratch((2000,), np.uint8, in_memory=0)
