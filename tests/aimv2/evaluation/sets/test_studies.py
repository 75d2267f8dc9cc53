import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from aimv2.base.errors import UsageError
from aimv2.datasets.description import read_labelled
from aimv2.datasets.labelled import labelled_sets
from aimv2.datasets.open import prepare_location
from PIL import Image


def with_sets(config, *paths, images=20_000):
    evaluation = replace(config.evaluation, sets=tuple(map(str, paths)), set_images=images)
    return replace(config, evaluation=evaluation)


def test_a_set_becomes_a_task_of_its_name(tiny, digits):
    (found,) = labelled_sets(with_sets(tiny, digits))
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
    (found,) = labelled_sets(with_sets(tiny, digits, images=48))
    (whole,) = labelled_sets(with_sets(tiny, digits))
    assert (len(found.train) + len(found.validation), len(found.test)) == (36, 12)
    assert set(found.item_N.tolist()) < set(whole.item_N.tolist())
    (smaller,) = labelled_sets(with_sets(tiny, digits, images=40))
    assert set(smaller.item_N.tolist()) < set(found.item_N.tolist())


def test_validation_of_its_own_is_used(tiny, digits):
    values = yaml.safe_load(digits.read_text()) | {"validation": {"folder": "train"}, "name": "with-validation"}
    path = digits.with_name("with-validation.yaml")
    path.write_text(yaml.safe_dump(values))
    described = read_labelled(path)
    for location in (described.train, described.validation, described.test):
        prepare_location(location)
    (found,) = labelled_sets(with_sets(tiny, path))
    assert (len(found.train), len(found.validation), len(found.test)) == (120, 120, 40)
    assert found.tasks[0].name == "with_validation"
    (found,) = labelled_sets(with_sets(tiny, path, images=80))
    assert (len(found.train), len(found.validation), len(found.test)) == (48, 12, 20)


def test_a_set_without_labels_is_refused(tiny, digits):
    values = yaml.safe_load(digits.read_text())
    del values["train"]
    path = digits.with_name("without-train.yaml")
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match=r"without-train\.yaml: an evaluation of a run needs label and train"):
        labelled_sets(with_sets(tiny, path))


def test_a_name_that_another_task_has_is_refused(tiny, digits):
    with pytest.raises(UsageError, match="a task is called 'written' already"):
        labelled_sets(with_sets(tiny, digits, digits))
    path = digits.with_name("digits.yaml")
    path.write_text(digits.read_text())
    for location in (read_labelled(path).train, read_labelled(path).test):
        prepare_location(location)
    with pytest.raises(UsageError, match="a task is called 'digits' already"):
        labelled_sets(with_sets(tiny, path))


def test_no_sets_are_none(tiny):
    assert labelled_sets(tiny) == []
