import numpy as np
import pytest
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets import labels


def records_with(memory_records, values, field="label"):
    return memory_records([b""] * len(values), [{field: value} for value in values])


def test_labels_are_text_whatever_their_type(memory_records):
    found = labels.read_labels(records_with(memory_records, ["cat\n", 3, 3.0, np.int64(4), True]), "label", "test")
    assert found == (["cat", "3", "3", "4", "True"], [])


def test_a_label_in_a_broken_member_is_a_bad_sample(memory_records):
    records = records_with(memory_records, ["cat", BadSampleError("broken json", "at 3"), "dog"])
    found = labels.read_labels(records, "label", "test")
    assert found.text_N == ["cat", "", "dog"]
    assert found.bad == [(1, "key-1", "broken json", "at 3")]


@pytest.mark.parametrize(("value", "message"), [(None, "has no label"), (0.5, "0.5 as"), ("  ", "as"), (["a"], "as")])
def test_a_sample_without_a_usable_label_is_named(value, message, memory_records):
    with pytest.raises(UsageError, match="train: sample 'key-1'") as caught:
        labels.read_labels(records_with(memory_records, ["cat", value]), "label", "train")
    assert message in str(caught.value)


def test_classes_are_those_of_training():
    assert labels.class_numbers(["b", "a", "", "b"], ["a", ""]) == {"a": 0, "b": 1}
    with pytest.raises(UsageError, match="classes that train does not have: c, d, e and 1 more"):
        labels.class_numbers(["a", "b"], ["f", "e", "d", "c"])
    with pytest.raises(UsageError, match="train has the class a only"):
        labels.class_numbers(["a", "a"], [])


def test_a_fifth_is_for_validation_whatever_the_order_of_rows(memory_records):
    records = memory_records([b""] * 5000)
    is_validation_N = labels.is_validation(records, np.arange(5000))
    assert 0.17 < is_validation_N.mean() < 0.23
    some = np.array([17, 3, 4000])
    assert labels.is_validation(records, some).tolist() == is_validation_N[some].tolist()


def test_captions_are_texts_or_lists_and_empty_ones_are_bad(memory_records):
    records = records_with(memory_records, ["a cat ", ["a dog", " ", "one"], "", None, []], "caption")
    captions, bad = labels.read_captions(records, "caption", range(5))
    assert captions == {0: ["a cat"], 1: ["a dog", "one"]}
    assert [(each.row, each.reason) for each in bad] == [
        (2, "empty caption"),
        (3, "missing caption"),
        (4, "empty caption"),
    ]
    with pytest.raises(UsageError, match="must be text or a list of texts"):
        labels.read_captions(records_with(memory_records, [3], "caption"), "caption", [0])


def test_names_of_classes_are_given_for_all_or_none():
    assert labels.class_names(["tabby_cat", "1"], {}) == {"1": "1", "tabby_cat": "tabby cat"}
    assert labels.class_names(["1", "0"], {"0": "no", "1": "yes", "2": "unused"}) == {"0": "no", "1": "yes"}
    with pytest.raises(UsageError, match="no name for 1"):
        labels.class_names(["1", "0"], {"0": "no"})
