from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from aimv2.data import transfer
from aimv2.data.pairs import Joined, Selected
from aimv2.data.prepare import open_source, prepare
from aimv2.data.sources.glyph_pairs import concept_position
from aimv2.data.sources.scene import INKS


@pytest.fixture(scope="module")
def glyphs(tiny):
    """Training and held-out emoji."""
    sides = open_source("openmoji", tiny.data)
    return sides.train, sides.held_out


@pytest.mark.exhaustive
def test_emoji_are_tested_on_held_out_concepts(glyphs):
    train, held_out = glyphs
    found = transfer.emoji(train, held_out)
    test = held_out.table[~held_out.table["is_variant"]].reset_index(drop=True)
    known = train.table[~train.table["is_variant"]]
    assert len(found.test) == len(test)
    assert len(found.train) + len(found.validation) == len(known)
    assert 0.1 < len(found.validation) / len(known) < 0.3
    assert set(found.item_N.tolist()).isdisjoint(train.items(np.arange(len(train))).tolist())
    seen = known["concept"].map(lambda concept: concept_position(f"probe {concept}")) >= 0.2
    assert [task.name for task in found.tasks] == ["emoji_subcategory", "emoji_category"]
    for task in found.tasks:
        label = task.name.removeprefix("emoji_")
        classes = sorted(set(known.loc[seen, label]))
        assert task.num_classes == len(classes)
        expected = [classes.index(name) if name in classes else transfer.NO_LABEL for name in test[label]]
        assert task.test_NK[:, 0].tolist() == expected
        assert set(task.train_NK[:, 0]) == set(range(len(classes)))


@pytest.fixture(scope="module")
def scene_set(pairs):
    tested = pairs.held_out.subset(60)
    return tested, transfer.scenes(pairs.train.subset(50), transfer.Tested(tested, tested.images(np.arange(60))))


def test_labels_of_scenes_say_what_is_in_each_cell(pairs, scene_set):
    tested, found = scene_set
    train = pairs.train.subset(50)
    splits = {
        "train_NK": [train.scene(row) for row in range(40)],
        "validation_NK": [train.scene(row) for row in range(40, 50)],
        "test_NK": [tested.scene(row) for row in range(60)],
    }
    names = sorted({thing.name for scene in splits["train_NK"] for thing in scene.things})
    by_name = {task.name: task for task in found.tasks}
    assert {name: task.num_classes for name, task in by_name.items()} == {"object": len(names), "ink": 8, "count": 3}
    for split, scenes in splits.items():
        for row, scene in enumerate(scenes):
            things = {thing.cell: thing for thing in scene.things}
            assert getattr(by_name["count"], split)[row].tolist() == [len(things) - 1]
            for cell in range(4):
                inks, objects = (getattr(by_name[task], split)[row, cell] for task in ("ink", "object"))
                if cell not in things:
                    assert inks == objects == transfer.NO_LABEL
                else:
                    assert list(INKS)[inks] == things[cell].ink
                    assert objects == (names.index(things[cell].name) if things[cell].name in names else -1)


def test_scenes_are_tested_on_held_out_pairs(pairs, scene_set):
    tested, found = scene_set
    rows = np.arange(60)
    assert np.array_equal(found.test, tested.images(rows))
    assert found.item_N.tolist() == tested.items(rows).tolist()
    known = pairs.train.subset(50).images(np.arange(50))
    assert np.array_equal(np.concatenate([found.train, found.validation]), known)


@pytest.mark.exhaustive
def test_test_images_are_the_given_ones_and_glyphs_among_them_are_left_out(pairs, glyphs):
    images = pairs.held_out.subset(5).images(np.arange(5))
    scenes_only = transfer.scenes(pairs.train.subset(50), transfer.Tested(pairs.held_out.subset(5), images))
    assert scenes_only.test is images, "so that their features are known"
    both = Joined({"scenes": pairs.held_out.subset(5), "openmoji": glyphs[1]})
    mixed = Selected(both, np.array([7, 2, 6, 0]))
    images = mixed.images(np.arange(4))
    found = transfer.scenes(pairs.train.subset(50), transfer.Tested(mixed, images))
    assert np.array_equal(found.test, images[[1, 3]])
    assert found.item_N.tolist() == mixed.items(np.array([1, 3])).tolist()
    of_glyphs = Selected(both, np.array([7, 6]))
    assert transfer.scenes(pairs.train.subset(50), transfer.Tested(of_glyphs, images[:2])) is None


@pytest.mark.exhaustive
def test_tasks_are_those_of_the_runs_data(tiny, pairs):
    def names(data):
        tested = data.held_out.subset(12)
        found = transfer.transfer_sets(data, transfer.Tested(tested, tested.images(np.arange(12))), 40)
        assert all(len(part) for one in found for part in (one.train, one.validation, one.test))
        return {task.name for one in found for task in one.tasks}

    emoji = {"emoji_subcategory", "emoji_category"}
    assert names(pairs) == {"object", "ink", "count", "digits"}
    config = replace(tiny.data, sources=("openmoji",))
    assert names(prepare(config, tiny.model.vocab_size)) == emoji | {"digits"}


def test_digits_are_all_used_once_in_grey():
    task = transfer.digits()
    assert task.is_whole
    images = np.concatenate([task.train, task.validation, task.test])
    (labelled,) = task.tasks
    labels = np.concatenate([labelled.train_NK, labelled.validation_NK, labelled.test_NK])[:, 0]
    expected = load_digits()
    assert images.shape == (1797, 8, 8, 3)
    assert (images[..., 0] == images[..., 2]).all()
    assert np.bincount(labels).tolist() == np.bincount(expected.target).tolist()
    assert images.max() == 255
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == len(np.unique(expected.images.reshape(1797, -1), axis=0))
