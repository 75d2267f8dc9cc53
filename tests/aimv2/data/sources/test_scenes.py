import hashlib
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig, SceneConfig
from aimv2.data.pairs import usable_captions
from aimv2.data.sources.scene import INKS, PAPERS, RESERVED, dense_caption
from aimv2.data.sources.scenes import composition, open_scenes, vocabulary

CONFIG = DataConfig(render_px=32, scenes=SceneConfig(num_objects=6, num_unseen=4))
ROWS = np.arange(1500)


@pytest.fixture(scope="module")
def sides():
    return open_scenes("material", CONFIG)


@pytest.fixture(scope="module")
def scenes(sides):
    return [sides.train.scene(row) for row in ROWS]


def test_scene_is_a_function_of_its_number_alone(sides):
    again = open_scenes("material", CONFIG).train
    rows = np.array([7, 123_456, 999_999])
    np.testing.assert_array_equal(again.images(rows[::-1])[::-1], sides.train.images(rows))
    assert again.captions(rows, "short") == sides.train.captions(rows, "short")


def test_another_process_draws_the_same_scenes(sides):
    script = (
        "import pickle, sys, numpy as np, hashlib; pairs = pickle.load(sys.stdin.buffer);"
        "print(hashlib.sha256(pairs.images(np.arange(40)).tobytes()).hexdigest())"
    )
    sent = pickle.dumps(sides.train)
    shown = subprocess.run([sys.executable, "-c", script], input=sent, capture_output=True, check=True).stdout
    assert shown.decode().strip() == hashlib.sha256(sides.train.images(np.arange(40)).tobytes()).hexdigest()


def test_training_and_held_out_scenes_share_no_composition(sides, scenes):
    held_out = {composition(sides.held_out.scene(row)) for row in ROWS}
    trained = {composition(scene) for scene in scenes}
    assert not trained & held_out


@pytest.mark.exhaustive
def test_looks_are_held_out_and_every_ink_of_an_object_is_trained_on():
    """Scenes of one object: none of training has object, ink, place and size of a held-out one, at any resolution."""
    scenes = replace(CONFIG.scenes, composition="looks", max_objects=1)
    sides = open_scenes("material", replace(CONFIG, scenes=scenes))

    def looks(side):
        return {thing._replace(side=0, top=0, left=0) for row in range(4000) for thing in side.scene(row).things}

    trained, held_out = looks(sides.train), looks(sides.held_out)
    assert not trained & held_out
    assert (trained, held_out) == (looks(sides.train.drawn_at(64)), looks(sides.held_out.drawn_at(64)))
    assert {(thing.name, thing.ink) for thing in trained} == {(thing.name, thing.ink) for thing in trained | held_out}
    assert {(thing.cell, thing.size) for thing in held_out} == {(cell, size) for cell in range(4) for size in range(4)}


def test_no_training_word_names_an_unseen_object(sides):
    unseen = {thing.name for row in ROWS for thing in sides.unseen.scene(row).things}
    assert len(unseen) == 4
    for kind in ("short", "dense"):
        words = {word for text in usable_captions(sides.train, ROWS, kind) for word in text.split()}
        assert not unseen & words


def test_unseen_objects_are_unseen_in_every_source_and_a_larger_vocabulary_contains_a_smaller_one():
    found = [vocabulary(source, CONFIG.scenes) for source in ("material", "fontawesome", "openmoji")]
    seen, unseen = zip(*found, strict=True)
    assert not {name for part in seen for name in part} & {name for part in unseen for name in part}
    small, _ = vocabulary("openmoji", CONFIG.scenes)
    large, _ = vocabulary("openmoji", replace(CONFIG.scenes, num_objects=20))
    assert list(large)[:6] == list(small)
    assert not RESERVED & set(large)


def test_numbers_of_objects_inks_and_papers_are_uniform(scenes):
    counts = Counter(len(scene.things) for scene in scenes)
    assert all(counts[number] == pytest.approx(500, abs=90) for number in (1, 2, 3))  # 5 standard deviations
    inks = Counter(thing.ink for scene in scenes for thing in scene.things)
    assert all(inks[ink] == pytest.approx(3000 / len(INKS), abs=100) for ink in INKS)
    papers = Counter(scene.paper for scene in scenes)
    assert all(papers[paper] == pytest.approx(1500 / len(PAPERS), abs=75) for paper in PAPERS)


@pytest.mark.exhaustive
def test_zipf_makes_the_first_objects_of_single_ones_the_most_frequent():
    """With one object in a scene, the r-th object's share is r^-z over the sum."""
    config = replace(CONFIG, scenes=replace(CONFIG.scenes, max_objects=1, zipf=1.0), held_out_fraction=1e-12)
    train = open_scenes("material", config).train
    counts = Counter(train.scene(row).things[0].name for row in ROWS)
    weights = 1 / np.arange(1, 7)
    names, _ = vocabulary("material", config.scenes)
    for name, share in zip(names, weights / weights.sum(), strict=True):
        assert counts[name] == pytest.approx(1500 * share, abs=5 * (1500 * share * (1 - share)) ** 0.5)


def test_objects_are_different_and_in_different_cells_in_reading_order(scenes):
    for scene in scenes:
        cells = [thing.cell for thing in scene.things]
        assert cells == sorted(set(cells))
        assert len({thing.name for thing in scene.things}) == len(scene.things)


def test_with_overlap_objects_reach_into_other_cells_but_stay_in_the_picture():
    train = open_scenes("material", replace(CONFIG, scenes=replace(CONFIG.scenes, overlap=0.25))).train
    things = [thing for row in ROWS for thing in train.scene(row).things]
    assert all(0 <= start <= 32 - thing.side for thing in things for start in (thing.top, thing.left))
    beyond = [thing for thing in things if thing.cell == 0 and max(thing.top, thing.left) + thing.side > 16]
    assert beyond
    assert max(max(thing.top, thing.left) + thing.side for thing in beyond) <= 20


def test_picture_matches_the_obvious_loop(sides):
    """Paper everywhere, and each object's ink where its glyph is, in reading order."""
    row = next(row for row in ROWS if len(sides.train.scene(row).things) == 3)
    scene, (names, _) = sides.train.scene(row), vocabulary("material", CONFIG.scenes)
    expected = np.full((32, 32, 3), PAPERS[scene.paper], dtype=float)
    for thing in scene.things:
        mask = names[thing.name].mask(thing.side) / 255
        for y in range(thing.side):
            for x in range(thing.side):
                pixel = expected[thing.top + y, thing.left + x]
                pixel += mask[y, x] * (np.array(INKS[thing.ink]) - pixel)
    assert np.abs(sides.train.images(np.array([row]))[0] - expected).max() <= 0.5 + 1e-9


def test_short_captions_name_the_largest_object_but_for_the_stated_share_of_wrong_ones(scenes):
    named = [next(word for word, kind in zip(*scene.alt_text, strict=True) if kind == "object") for scene in scenes]
    largest = [max((thing.side, -thing.cell, thing.name) for thing in scene.things)[2] for scene in scenes]
    wrong = [name for name, right in zip(named, largest, strict=True) if name != right]
    present = [name for name, scene in zip(named, scenes, strict=True) if name in {t.name for t in scene.things}]
    assert len(wrong) == pytest.approx(150, abs=60)
    assert len(present) == 1500 - len(wrong), "a wrong name is of an object that is not in the picture"
    noisy = [scene for scene in scenes if len(scene.alt_text.words) == 3]
    assert len(noisy) == pytest.approx(300, abs=80)


def test_half_of_the_dense_captions_of_several_objects_give_relations(scenes):
    several = [scene for scene in scenes if len(scene.things) > 1]
    related = [scene for scene in several if scene.form == "relations"]
    assert len(related) == pytest.approx(len(several) / 2, abs=80)
    words = (zip(*dense_caption(scene), strict=True) for scene in related)
    first = Counter(next(word for word, kind in own if kind == "relation") for own in words)
    for one, other in (("above", "below"), ("left", "right")):  # no relation is more likely than its opposite
        total = first[one] + first[other]
        assert first[one] == pytest.approx(total / 2, abs=2.5 * total**0.5)


@pytest.mark.exhaustive
def test_more_objects_than_a_source_has_are_refused():
    with pytest.raises(UsageError, match=r"^data.scenes.num_objects=5000: material_scenes has only \d+ such objects$"):
        vocabulary("material", replace(CONFIG.scenes, num_objects=5000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_objects": 5}, r"max_objects=5 must not exceed the cells of grid=2 \(4\)"),
        ({"num_unseen": 2}, "num_unseen=2"),
        ({"min_size": 0.9, "max_size": 0.8}, "min_size=0.9 must not exceed max_size=0.8"),
    ],
)
def test_scene_config_refuses_what_cannot_be_drawn(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG.scenes, **changes)


def test_objects_of_a_source_are_no_near_copies_of_each_other():
    """Oracle: the share of pixels in which two masks differ."""
    seen, unseen = vocabulary("material", replace(CONFIG.scenes, num_objects=60, num_unseen=15))
    masks = np.stack([glyph.mask(32).astype(float) for glyph in [*seen.values(), *unseen.values()]])
    for number, mask in enumerate(masks):
        ink = np.minimum(mask, masks).sum(axis=(1, 2)) / np.maximum(mask, masks).sum(axis=(1, 2))
        assert (np.delete(ink, number) < 0.98).all()


def test_scenes_of_one_composition_are_one_item(sides):
    items = sides.held_out.items(ROWS)
    seen = {}
    for row, item in zip(ROWS, items.tolist(), strict=True):
        assert seen.setdefault(composition(sides.held_out.scene(row)), item) == item
    assert len(seen) == len(set(items.tolist())) < len(ROWS)


@pytest.mark.parametrize(("fraction", "side"), [(1e-9, "held-out"), (1 - 1e-9, "train")])
def test_side_without_compositions_is_refused(fraction, side):
    scenes = open_scenes("material", replace(CONFIG, held_out_fraction=fraction))
    pairs = scenes.held_out if side == "held-out" else scenes.train
    message = rf"^data.held_out_fraction=.* leaves no {side} scene of material_scenes with \d objects"
    with pytest.raises(UsageError, match=message):
        pairs.scene(0)


def test_scenes_can_be_drawn_larger(sides):
    """They are those of a larger ``render_px``, and show the same as the small ones."""
    large, expected = sides.train.drawn_at(96), open_scenes("material", replace(CONFIG, render_px=96)).train
    np.testing.assert_array_equal(large.images(ROWS[:20]), expected.images(ROWS[:20]))
    assert len(large) == len(sides.train)
    assert large.captions(ROWS[:20], "dense") == sides.train.captions(ROWS[:20], "dense")
    np.testing.assert_array_equal(large.sample_ids(ROWS), sides.train.sample_ids(ROWS))
