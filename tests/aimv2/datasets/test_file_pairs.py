import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import BadSampleError
from aimv2.config.data_config import DataConfig
from aimv2.data.decode import square
from aimv2.datasets.description import SourceDescription, read_source
from aimv2.datasets.file_pairs import FilePairs, _Choice, _Others, worded
from aimv2.datasets.open import open_source, prepare_location
from tests.helpers.memory_records import MemoryRecords
from tests.helpers.own_data import COLOURS, pictured_source, write


@pytest.fixture
def sides_of(tmp_path, tiny):
    def open_sides(files=None, **values):
        path = pictured_source(tmp_path / "pictures", **values)
        for name, content in (files or {}).items():
            write(tmp_path / "pictures" / name, content)
        prepare_location(read_source(path))
        return open_source(str(path), replace(tiny.data, sources=(str(path),)))

    return open_sides


def numbers(pairs):
    return [int(key.removesuffix(".png")) for key in pairs.keys(np.arange(len(pairs)))]


def test_sides_have_every_sample_once_and_spread_rows_are_from_everywhere(sides_of):
    sides = sides_of()
    assert numbers(sides.train) == [number for number in range(40) if number % 5 != 4]
    assert numbers(sides.held_out) == [number for number in range(40) if number % 5 == 4]
    assert sides.unseen is None
    ids = [*sides.train.sample_ids(np.arange(32)), *sides.held_out.sample_ids(np.arange(8))]
    assert len(set(ids)) == 40
    assert min(ids) >= 0
    train = sides.train
    assert train.caption(2, "dense") == train.caption(2, "short"), "captions of one kind stand for both"
    assert list(train.spread(8)) == [0, 4, 8, 12, 16, 20, 24, 28]
    assert list(train.spread(20))[-1] == 30
    assert list(train.spread(100)) == list(range(32))


def test_filtered_samples_are_on_no_side_and_transforms_of_a_source_replace_those_of_the_run(sides_of, tiny):
    values = {"held_out": {"fraction": 0.3}, "transforms": {"flip_probability": 0.25}}
    sides = sides_of(filters={"json.side": {"any_of": ["train"]}}, **values)
    config = tiny.augment.of(tiny.data)
    assert sides.train.augment(0, config) == replace(config, flip_probability=0.25)
    found = numbers(sides.train) + numbers(sides.held_out)
    assert sorted(found) == [number for number in range(40) if number % 5 != 4]
    assert sides.train.caption(3, "short").text.endswith(f"number {numbers(sides.train)[3]}")


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    held_out=st.sets(st.integers(0, 200)),
    num_nodes=st.integers(2, 8),
    block_rows=st.integers(1, 100),
)
def test_blocks_for_several_nodes_are_whole_parts(sizes, held_out, num_nodes, block_rows):
    """Oracle: the part of each training row, counted."""
    part_of = [part for part, size in enumerate(sizes) for _ in range(size)]
    rows = [row for row in range(len(part_of)) if row not in held_out]
    if not rows:
        return
    records = MemoryRecords([b""] * len(part_of))
    records.part_edges = lambda: np.cumsum([0, *sizes])
    kept = _Others(len(part_of), np.array(sorted(held_out & set(range(len(part_of)))), dtype=np.int64), None)
    pairs = FilePairs(records, kept, SourceDescription(shards=("",), short={"txt": 1.0}), DataConfig())
    pairs.block_rows = block_rows
    edges = pairs.block_edges(num_nodes).tolist()
    assert (edges[0], edges[-1]) == (0, len(rows))
    blocks = [{part_of[row] for row in rows[start:end]} for start, end in pairwise(edges)]
    assert all(one and other and max(one) < min(other) for one, other in pairwise(blocks))
    numbers = [len(block) for block in blocks[:-1]]
    assert len(set(numbers)) <= 1, "as many parts in each"


def test_image_and_captions_of_a_row_belong_together(sides_of, tiny):
    train = sides_of(dense="json.long").train
    for row, number in enumerate(numbers(train)):
        assert train.caption(row, "short").text == f"a picture of {COLOURS[number % 4]} number {number}"
        dense = [train.caption(row, "dense", choice).text for choice in (0.0, 0.49, 0.5, 0.99)]
        assert dense == [*[f"long {number}"] * 2, *[f"longer {number}"] * 2]
        image = train.image(row)
        assert image.shape == (24, 24, 3)
        np.testing.assert_array_equal(image, square(train.picture(row), 24, tiny.data.max_pixels))


@pytest.mark.parametrize(
    ("kind", "reason"), [("caption", "missing caption"), ("empty", "empty caption"), ("image", "undecodable image")]
)
def test_a_bad_sample_says_why(sides_of, kind, reason):
    train = sides_of(bad={3: kind}).train
    read = train.image if kind == "image" else partial(train.caption, kind="short")
    with pytest.raises(BadSampleError) as raised:
        read(3)
    assert raised.value.reason == reason


def test_an_endless_caption_is_bad_before_it_is_cleaned_and_one_that_is_no_text_is_missing(sides_of):
    train = sides_of({"03.txt": "word " * 10_000}, dense="json.number").train
    with pytest.raises(BadSampleError, match=r"missing caption: json.number is int, not text"):
        train.caption(0, "dense")
    with pytest.raises(BadSampleError, match="caption over the limit: txt has 50,000 characters"):
        train.text(3, "short")


def test_equal_keys_of_two_sources_have_different_ids(sides_of, tiny, tmp_path):
    path = pictured_source(tmp_path / "pictures")
    copy = path.with_name("other.yaml")
    copy.write_text(path.read_text() + "index: pictures.index\n")
    one, other = (open_source(str(file), tiny.data).train.sample_ids(np.arange(32)) for file in (path, copy))
    assert not set(one.tolist()) & set(other.tolist())


def test_questions_of_a_field_are_clean_words(sides_of):
    qa = [{"question": "What is it?", "answer": "A <b>Dog</b>"}, {"question": "How many?", "answer": "2", "id": 7}]
    expected = [("own", ("what", "is", "it"), ("a", "bdogb")), ("own", ("how", "many"), ("2",))]
    for value in (qa, json.dumps(qa)):
        train = sides_of({"00.json": json.dumps({"side": "train", "qa": value})}, questions="json.qa").train
        assert train.questions(0) == expected
    assert train.questions(1) == [], "a sample may have none"
    assert sides_of().train.questions(0) == []


@pytest.mark.parametrize(
    "value",
    [
        *(3, "no json", {"question": "a"}, ["what"], [{"question": "what"}], [{"question": "what", "answer": 2}]),
        *([{"question": "?", "answer": "red"}], [{"question": "a " * 2**15, "answer": "red"}]),
    ],
)
def test_a_broken_question_is_a_bad_sample(sides_of, value):
    train = sides_of({"00.json": json.dumps({"side": "train", "qa": value})}, questions="json.qa").train
    with pytest.raises(BadSampleError, match="broken json"):
        train.questions(0)


@given(size=st.integers(1, 60), data=st.data())
def test_the_others_are_all_numbers_but_some(size, data):
    without = sorted(data.draw(st.sets(st.integers(0, size - 1), max_size=size)))
    expected = [number for number in range(size) if number not in without]
    for of, step, first in ((None, 1, 0), (np.arange(size) * 10 + 3, 10, 3)):
        others = _Others(size, np.array(without, dtype=np.int64), of)
        values = [step * number + first for number in expected]
        assert [others[place] for place in range(len(others))] == values
        limits = np.arange(step * size + first + 1)
        assert others.below(limits).tolist() == [sum(value < limit for value in values) for limit in limits]


@given(number=st.floats(0, 1, exclude_max=True), weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=5))
def test_a_choice_divides_the_unit_interval_by_the_weights(number, weights):
    """Oracle: a loop that subtracts."""
    rest, expected = number * sum(weights), 0
    while expected < len(weights) - 1 and rest >= weights[expected]:
        rest -= weights[expected]
        expected += 1
    found, within = _Choice({str(place): weight for place, weight in enumerate(weights)}).at(number)
    assert 0 <= within < 1
    if 1e-9 < within < 1 - 1e-9:
        assert found == str(expected)
        assert within == pytest.approx(rest / weights[expected], abs=1e-6)


def test_content_words_are_all_but_function_words():
    caption = worded("The  DOG&amp;cat, on 2 red\nsofas!")
    assert caption.text == "the dogcat on 2 red sofas"
    assert caption.classes == ("other", "word", "other", "word", "word", "word")
    assert set(worded("собака на диване").classes) == {"word"}, "in another language all are"
    assert worded(" ... !").words == ()
