"""Hard negatives: each is false, as likely as the truth without the image, and scored as a loop would; questions."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from aimv2.base.errors import BadSampleError
from aimv2.data.pairs import Selected
from aimv2.data.sources.scene import (
    COUNTS,
    INKS,
    PAPERS,
    RELATIONS,
    SCENE_QUESTIONS,
    Caption,
    Question,
    Scene,
    Thing,
    dense_caption,
)
from aimv2.data.sources.scenes import composition, is_held_out, open_scenes
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.definitions.metrics import CHOICE_KINDS
from aimv2.evaluation.held_out import Words, prepare_captions
from aimv2.evaluation.questions import (
    choice_items,
    hard_negatives,
    mirrored,
    outcomes,
    prepare_choices,
    prepare_questions,
    swaps,
)

NAMES = ("star", "rocket", "umbrella", "bug")
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
FRACTION = 0.5


def scene_of(things, form="places", order=None, grid=2):
    """A scene of (name, ink, cell)."""
    placed = tuple(Thing(name, ink, cell, 1, 0, 0) for name, ink, cell in sorted(things, key=lambda thing: thing[2]))
    order = tuple(range(len(placed))) if order is None else order
    return Scene("icons", "mint", grid, placed, order, form, Caption((placed[0].name,), ("object",)))


def world(count):
    """Every scene of so many objects of four, in two inks, that is held out, in both forms."""
    found = []
    for names in product(NAMES, repeat=count):
        if len(set(names)) < count:
            continue
        for inks in product(("red", "blue"), repeat=count):
            for cells in product(range(4), repeat=count):
                if list(cells) != sorted(set(cells)):
                    continue
                things = list(zip(names, inks, cells, strict=True))
                for form in ("places", "relations") if count > 1 else ("places",):
                    scene = scene_of(things, form)
                    if is_held_out(composition(scene), FRACTION):
                        found.append(scene)
    return found


@pytest.fixture(scope="module")
def scenes():
    return world(2) + world(3)


def test_negatives_change_what_their_kind_says_and_stay_held_out(scenes):
    """Objects and inks are read back from the caption. A swap is symmetric: the negatives of a negative contain the
    true caption, so without the image both have the same chance to be true."""
    seen = Counter()
    by_caption = {dense_caption(scene): scene for scene in scenes}
    for scene in scenes:
        true = dense_caption(scene)
        for kind, other in [(kind, other) for kind, found in swaps(scene, FRACTION).items() for other in found]:
            seen[kind] += 1
            changed = [(a, b, name) for a, b, name in zip(true.words, other.words, true.classes, strict=True) if a != b]
            assert {name for *_, name in changed} == {kind.removesuffix("s")}
            assert sorted(true.classes) == sorted(other.classes)
            inks = [word for word, name in zip(*other, strict=True) if name == "ink"]
            names = [word for word, name in zip(*other, strict=True) if name == "object"]
            things = tuple(Thing(name, ink, 0, 1, 0, 0) for name, ink in zip(names, inks, strict=True))
            assert is_held_out(composition(scene._replace(things=things)), FRACTION)
            if kind != "relations":  # several scenes have the same relations
                (a, b, _), (c, d, _) = changed
                assert (a, b) == (d, c), "two words change places"
                if other in by_caption and scene.order == by_caption[other].order:
                    assert true in swaps(by_caption[other], FRACTION)[kind]
    assert set(seen) == {"objects", "inks", "relations"}


def test_mirrored_looks_are_negatives_only_if_they_are_held_out_too(scenes):
    """Otherwise words that training has seen would tell the negative from the true caption."""
    counted = Counter()
    for scene in (scene._replace(composition="looks") for scene in scenes if scene.form == "relations"):
        mirrors = {dense_caption(mirror): mirror for mirror in (mirrored(scene, 0), mirrored(scene, 1))}
        mirrors.pop(dense_caption(scene), None)
        negative = swaps(scene, FRACTION)["relations"]
        assert {*negative} <= {*mirrors}
        for caption, mirror in mirrors.items():
            parts = sorted(f"{thing.ink} {thing.name} {thing.cell} {thing.size}" for thing in mirror.things)
            expected = is_held_out(f"icons: {', '.join(parts)}", FRACTION)
            assert (caption in negative) == expected
            counted[expected] += 1
    assert min(counted[True], counted[False]) > 0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("grid", [2, 3])
def test_mirrored_scene_has_the_opposite_relations(axis, grid):
    flipped = ({"above", "below"}, {"left of", "right of"})[axis]
    for cells in product(range(grid**2), repeat=3):
        if list(cells) != sorted(set(cells)):
            continue
        things = list(zip(NAMES[:3], ("red", "blue", "red"), cells, strict=True))
        scene = scene_of(things, "relations", order=(2, 0, 1), grid=grid)
        expected = dense_caption(scene).text
        for word in RELATIONS:
            expected = expected.replace(word, f"<{word}>")
        for word in RELATIONS:
            expected = expected.replace(f"<{word}>", OPPOSITE[word] if word in flipped else word)
        mirror = mirrored(scene, axis)
        assert dense_caption(mirror).text == expected
        assert [thing.cell for thing in mirror.things] == sorted(thing.cell for thing in mirror.things)
        assert mirrored(mirror, axis) == scene


def test_scene_of_places_has_no_other_relation_and_one_object_no_swap():
    single = scene_of([("star", "red", 0)])
    assert not any(swaps(single, 1.0).values())
    pair = scene_of([("star", "red", 0), ("bug", "red", 3)])
    found = swaps(pair, 1.0)
    assert [caption.text for caption in found["objects"]] == ["on mint two red bug top left red star bottom right"]
    assert found["inks"] == [], "equal inks change nothing"
    assert found["relations"] == []


def test_each_kind_is_about_equally_frequent_and_so_is_each_count(pairs):
    held_out = pairs.held_out.subset(2000)
    drawn = [held_out.scene(row) for row in range(2000)]
    found = hard_negatives([*drawn, None], 3, 0.2)
    assert found == hard_negatives(drawn, 3, 0.2), "the same in every run"
    share = {kind: sum(negative.kind == kind for negative in found) / len(found) for kind in CHOICE_KINDS}
    assert all(0.1 < value < 0.45 for value in share.values())
    assert len(found) > 0.9 * 2000
    number = Counter(len(drawn[negative.row].things) for negative in found if negative.kind == "counts")
    assert set(number) == {1, 2, 3}
    expected = min(Counter(len(scene.things) for scene in drawn).values()) / 3
    for chosen in number.values():
        assert chosen == pytest.approx(expected, abs=4 * expected**0.5)
    for negative in found:
        if negative.kind == "counts":
            true = dense_caption(drawn[negative.row]).words
            assert negative.caption.words[:-1] == true[: len(negative.caption.words) - 1]
            assert negative.caption.words[-1] in set(COUNTS[:3]) - {COUNTS[len(drawn[negative.row].things) - 1]}
    assert len({(negative.row, negative.kind) for negative in found}) == len(found)


@pytest.fixture(scope="module")
def tokenizer():
    words = " ".join([*NAMES, *INKS, *PAPERS, *COUNTS, *RELATIONS])
    return CaptionTokenizer.train([words] * 3, vocab_size=600)


@pytest.mark.parametrize("supervise_eos", [False, True])
def test_outcome_compares_sums_over_the_tokens_of_its_kind(tokenizer, scenes, supervise_eos):
    chosen = scenes[::41]
    words = Words(tokenizer, 30, supervise_eos)
    choices = prepare_choices(hard_negatives(chosen, 3, FRACTION), words)
    dense = prepare_captions([dense_caption(scene) for scene in chosen], words)
    generator = torch.Generator().manual_seed(0)
    true_NT = torch.randint(0, 3, dense.token_NT.shape, generator=generator) * dense.supervised_NT.float()
    false_MT = torch.randint(0, 3, choices.captions.token_NT.shape, generator=generator)
    false_MT = false_MT * choices.captions.supervised_NT.float()
    found = outcomes(true_NT, dense, false_MT, choices)

    def length(text):
        return int((tokenizer.encode([text], 30) != tokenizer.end_id).sum())

    expected = []
    for place, (row, kind) in enumerate(zip(choices.row_M, choices.kind_M, strict=True)):
        if kind == "counts":
            before = length("on mint")
            true_end = before + length(COUNTS[len(chosen[row].things) - 1])
            false_end = before + length(tokenizer.decode(choices.captions.token_NT[place].tolist()).split()[-1])
            true, false = float(true_NT[row, before:true_end].sum()), float(false_MT[place, before:false_end].sum())
        else:
            true, false = float(true_NT[row].sum()), float(false_MT[place].sum())
        expected.append(1.0 if true < false else 0.5 if true == false else 0.0)
    assert found.tolist() == expected
    assert {0.0, 0.5, 1.0} <= set(expected)
    assert {"counts", "relations"} <= set(choices.kind_M)
    items = choice_items(found, choices, np.arange(100, 100 + len(chosen)))
    assert items[""].value == pytest.approx(np.mean(expected))
    for kind in CHOICE_KINDS:
        own = [outcome for outcome, name in zip(expected, choices.kind_M, strict=True) if name == kind]
        rows = [100 + row for row, name in zip(choices.row_M, choices.kind_M, strict=True) if name == kind]
        assert items[f"_{kind}"].total_N.tolist() == own
        assert items[f"_{kind}"].item_N.tolist() == rows


@pytest.mark.exhaustive
@pytest.mark.parametrize("order", [1, 2, 4])
def test_captions_alone_do_not_tell_the_true_one(tiny, order):
    """An n-gram model of training captions, which sees no image, is at chance on every kind."""
    sides = open_scenes("fontawesome", tiny.data)
    train, held_out = sides.train.subset(400), sides.held_out.subset(4000)
    seen, after = Counter(), Counter()
    for true in train.captions(np.arange(400), "dense"):
        padded = ("",) * order + true.words
        for end, length in product(range(order, len(padded)), range(order + 1)):
            seen[padded[end - length : end + 1]] += 1
            after[padded[end - length : end]] += 1

    def log_prob(words):
        padded, total = ("",) * order + words, 0.0
        for end in range(order, len(padded)):
            prob = 1e-2
            for length in range(order + 1):  # longer contexts, where there are any, count more
                context = padded[end - length : end]
                prob = (seen[(*context, padded[end])] + prob) / (after[context] + 1)
            total += np.log(prob)
        return total

    scenes = [held_out.scene(row) for row in range(4000)]
    right = {kind: [] for kind in CHOICE_KINDS}
    for row, kind, false in hard_negatives(scenes, 3, tiny.data.held_out_fraction):
        true = dense_caption(scenes[row]).words
        difference = log_prob(true[: len(false.words)] if kind == "counts" else true) - log_prob(false.words)
        right[kind].append(0.5 * (1 + np.sign(round(difference, 9))))
    for kind, outcomes_M in right.items():
        assert len(outcomes_M) > 300
        # With five objects few compositions are held out, so that the same choice comes up often.
        assert np.mean(outcomes_M) == pytest.approx(0.5, abs=5 * 0.5 / len(outcomes_M) ** 0.5), kind


@pytest.fixture(scope="module")
def words(pairs):
    return Words(pairs.tokenizer, 24, supervise_eos=False)


class Own(Selected):
    """Pairs with given questions."""

    def __init__(self, pairs, given):
        super().__init__(pairs, np.arange(len(given)))
        self._given = given

    def questions(self, row):
        if self._given[row] is None:
            raise BadSampleError("broken json")
        return self._given[row]


def test_one_question_of_each_kind_is_asked_about_a_scene_and_only_answers_are_predicted(pairs, words):
    held_out = pairs.held_out.subset(60)
    asked = prepare_questions(held_out, words)
    assert asked.row_M.tolist() == sorted(asked.row_M.tolist())
    assert max(Counter(zip(asked.row_M.tolist(), asked.kind_M, strict=True)).values()) == 1
    assert set(asked.kind_M) == set(SCENE_QUESTIONS)
    for number in range(len(asked)):
        tokens, is_predicted = asked.captions.token_NT[number], asked.captions.supervised_NT[number]
        question, answer = (pairs.tokenizer.decode(tokens[chosen].tolist()) for chosen in (~is_predicted, is_predicted))
        assert answer == asked.answer_M[number]
        true = Question(asked.kind_M[number], tuple(question.split()), tuple(answer.split()))
        assert true in held_out.questions(int(asked.row_M[number]))
        last = int(is_predicted.nonzero().max())
        assert tokens[last] == pairs.tokenizer.end_id, "the answer must end"
        assert asked.captions.num_read_N[number] == asked.captions.text_len_N[number] == last + 1
    again = prepare_questions(held_out, words)
    assert (again.captions.token_NT == asked.captions.token_NT).all()


def test_no_further_pair_is_asked_about_once_there_are_enough_questions(pairs, words):
    held_out = pairs.held_out.subset(60)
    every, some = prepare_questions(held_out, words), prepare_questions(held_out, words, most=21)
    assert 21 <= len(some) < 21 + len(SCENE_QUESTIONS)
    assert (some.captions.token_NT == every.captions.token_NT[: len(some)]).all()
    assert some.row_M[-1] != every.row_M[len(some)]


def test_all_own_questions_are_asked_but_those_that_are_too_long_or_broken(pairs, words):
    short = Question("own", ("is", "it", "red"), ("no",))
    fits = Question("own", ("red",) * 22, ("red",))  # one token a word, and end-of-text
    long = Question("own", ("red",) * 23, ("red",))
    asked = prepare_questions(Own(pairs.held_out, [[short, fits], None, [long, short], []]), words)
    assert asked.row_M.tolist() == [0, 0, 2]
    assert asked.answer_M.tolist() == ["no", "red", "no"]
    assert asked.num_left_out == 2
    assert asked.captions.text_len_N[1] == 24
