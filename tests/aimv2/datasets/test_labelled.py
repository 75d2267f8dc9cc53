import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.data.batches.training import loaded
from aimv2.data.decode import square
from aimv2.datasets.labelled import (
    Shape,
    Unusable,
    class_numbers,
    counts,
    is_validation,
    labelled_sets,
    picture_batch,
    pictures,
    read_labels,
)
from aimv2.definitions.metrics import set_names
from tests.helpers.labelled_digits import IMAGE_PX, changed, labelled_digits
from tests.helpers.memory_records import MemoryRecords, png, random_pictures, with_field


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return labelled_digits(tmp_path_factory.mktemp("digits"))


def with_sets(config, *paths, images=20_000):
    evaluation = replace(config.evaluation, sets=tuple(map(str, paths)), set_images=images)
    return replace(config, evaluation=evaluation)


def labelled(config):
    return labelled_sets(config, set_names(config))


def test_a_set_becomes_a_task_of_its_name(tiny, digits):
    (found,) = labelled(with_sets(tiny, digits))
    (task,) = found.tasks
    assert (task.name, task.num_classes, found.is_whole) == ("written", 10, True)
    assert len(found.train) + len(found.validation) == 120
    assert found.test.shape == (40, 16, 16, 3)
    rows = [json.loads(line) for line in digits.with_name("test.jsonl").read_text().splitlines()]
    paths = [digits.parent / "test" / row["image"] for row in rows]
    assert task.test_NK[:, 0].tolist() == [int(path.parent.name) for path in paths]
    # Shorter side to 16 / 0.875 px, then the centre.
    whole = Image.open(paths[7]).convert("RGB").resize((18, 18), Image.Resampling.BICUBIC)
    expected = np.asarray(whole).astype(int)[1:17, 1:17]
    assert np.abs(found.test[7].astype(int) - expected).max() <= 1
    assert len(set(found.item_N.tolist())) == 40
    assert found.item_N.min() >= 0


def test_a_limit_takes_a_fixed_part_of_every_split(tiny, digits):
    (found,) = labelled(with_sets(tiny, digits, images=48))
    (whole,) = labelled(with_sets(tiny, digits))
    assert (len(found.train) + len(found.validation), len(found.test)) == (36, 12)
    assert set(found.item_N.tolist()) < set(whole.item_N.tolist())
    (smaller,) = labelled(with_sets(tiny, digits, images=40))
    assert set(smaller.item_N.tolist()) < set(found.item_N.tolist())


def test_validation_of_its_own_is_used(tiny, digits):
    path = changed(digits, "with-validation", validation={"folder": "train"}, name=None)
    (found,) = labelled(with_sets(tiny, path))
    assert (len(found.train), len(found.validation), len(found.test)) == (120, 120, 40)
    assert found.tasks[0].name == "with_validation"
    (found,) = labelled(with_sets(tiny, path, images=80))
    assert (len(found.train), len(found.validation), len(found.test)) == (48, 12, 20)


def test_sets_without_training_images_or_with_a_name_that_is_taken_are_refused(tiny, digits):
    cases = {
        r"without-train\.yaml: an evaluation of a run needs train": [changed(digits, "without-train", train=None)],
        "a task is called 'written' already": [digits, digits],
        "a task is called 'digits' already": [changed(digits, "digits")],
    }
    for message, paths in cases.items():
        with pytest.raises(UsageError, match=message):
            labelled(with_sets(tiny, *paths))
    assert labelled(tiny) == []


def test_labels_are_text_whatever_their_type_and_one_in_a_broken_member_is_a_bad_sample():
    records = with_field("label", ["cat\n", BadSampleError("broken json", "at 3"), 3, 3.0, np.int64(4), True])
    expected = (["cat", "", "3", "3", "4", "True"], [(1, "key-1", "broken json", "at 3")])
    assert read_labels(records, "label", "test", range(6)) == expected


@pytest.mark.parametrize(("value", "message"), [(None, "has no label"), (0.5, "0.5 as"), ("  ", "as"), (["a"], "as")])
def test_a_sample_without_a_usable_label_is_named(value, message):
    with pytest.raises(UsageError, match="train: sample 'key-1'") as caught:
        read_labels(with_field("label", ["cat", value]), "label", "train", [0, 1])
    assert message in str(caught.value)


def test_classes_are_those_of_training():
    assert class_numbers(["b", "a", "", "b"], ["a", ""]) == {"a": 0, "b": 1}
    with pytest.raises(UsageError, match="classes that train does not have: c, d, e and 1 more"):
        class_numbers(["a", "b"], ["f", "e", "d", "c"])
    with pytest.raises(UsageError, match="train has the class a only"):
        class_numbers(["a", "a"], [])


def test_a_fifth_is_for_validation_whatever_the_order_of_rows():
    records = with_field("label", [""] * 5000)
    is_validation_N = is_validation(records, np.arange(5000))
    assert 0.17 < is_validation_N.mean() < 0.23
    some = np.array([17, 3, 4000])
    assert is_validation(records, some).tolist() == is_validation_N[some].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_rows_in_order_whatever_reads_them(workers):
    files = [png(picture) for picture in random_pictures()]
    files[5] = None
    read = partial(picture_batch, MemoryRecords(files), Shape(IMAGE_PX, 0.875, 10**6))
    found = list(loaded(read, [range(2, 5), range(5, 8), range(8, 9)], num_workers=workers, pin_memory=False))
    assert [len(batch.images) for batch in found] == [3, 3, 1]
    expected = [
        square(files[row], 32, 10**6)[2:30, 2:30] if files[row] else np.zeros((28, 28, 3)) for row in range(2, 9)
    ]
    assert (np.concatenate([batch.images for batch in found]) == np.stack(expected)).all()
    assert [tuple(each) for batch in found for each in batch.unusable] == [(5, "key-5", "missing image", "key-5")]


def test_an_image_over_the_limit_cannot_be_used():
    picture = random_pictures()[0]
    height, width = picture.shape[:2]
    for max_pixels, is_bad in ((height * width, False), (height * width - 1, True)):
        unusable = []
        list(pictures(MemoryRecords([png(picture)]), [0], Shape(IMAGE_PX, 1.0, max_pixels), unusable))
        assert [each.reason for each in unusable] == ["image over the pixel limit"] * is_bad


def test_reasons_are_counted():
    reasons = ["undecodable image", "missing image"] * 2 + ["missing image"]
    found = [Unusable(row, f"{row}", reason, "") for row, reason in enumerate(reasons)]
    assert counts(found) == "3 missing image, 2 undecodable image"
