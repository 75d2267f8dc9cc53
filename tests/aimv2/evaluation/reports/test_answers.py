"""Answers of a tuned reader: right where the features have the answer, at chance where they do not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.paths import replaced
from aimv2.data.pairs import Selected
from aimv2.data.sources.scene import Caption, Scene, Thing, questions
from aimv2.evaluation.held_out import Words
from aimv2.evaluation.questions import prepare_questions
from aimv2.evaluation.reports.answers import batches_by_image, exact, exact_blind, measure, most_frequent, tuned
from aimv2.evaluation.reports.reader import initial

INKS = ("red", "blue", "brown")
WIDTH = 32  # of the features


@pytest.fixture(scope="module")
def config(tiny):
    """A reader of features of a 2 x 2 grid."""
    reader = ReaderConfig(samples=1, questions=3600, width=32, batch_size=24)
    model = replace(tiny.model, patch_px=8, encoder=replace(tiny.model.encoder, width=WIDTH))
    return replace(tiny, model=replace(model, max_text_tokens=16), evaluation=replace(tiny.evaluation, reader=reader))


@pytest.fixture(scope="module")
def names(pairs):
    """Three objects of the run."""
    seen = Counter(thing.name for row in range(100) for thing in pairs.train.scene(row).things)
    return [name for name, _ in seen.most_common(3)]


@pytest.fixture(scope="module")
def sides(pairs, names):
    """Return pairs with scenes of one object, by their scenes: every one three times, and some of them."""

    class Single(Selected):
        def __init__(self, scenes):
            super().__init__(pairs.train, np.arange(len(scenes)))
            self._scenes = scenes

        def scene(self, row):
            return self._scenes[row]

        def questions(self, row):
            return questions(self.scene(row))

    scenes = [
        Scene("icons", "mint", 2, (Thing(name, ink, cell, 1, 0, 0),), (0,), "places", Caption((name,), ("object",)))
        for name in names
        for ink in INKS
        for cell in range(4)
    ]
    return Single(scenes * 3), Single(scenes)


@pytest.fixture(scope="module")
def asked(config, pairs, sides):
    """Return the questions about both sides."""
    words = Words(pairs.tokenizer, config.model.max_text_tokens, supervise_eos=False)
    return [prepare_questions(side, words) for side in sides]


@pytest.fixture(scope="module")
def told(config, names, sides, asked):
    """Return the metrics of features that are one-hot in each cell's object and ink, and of random ones."""

    def telling(side):
        features_NID = torch.zeros(len(side), 4, WIDTH)
        for row in range(len(side)):
            for thing in side.scene(row).things:
                features_NID[row, thing.cell, names.index(thing.name)] = 1
                features_NID[row, thing.cell, 3 + INKS.index(thing.ink)] = 1
        return features_NID

    def metrics(features_NID, held_out_NID):
        reader = initial(features_NID, config, seed=0)
        found = measure(reader, features_NID, asked[0], held_out_NID, asked[1], np.arange(len(sides[1])), config)
        return {name: measured.items.value for name, measured in found.items()}

    generator = torch.Generator().manual_seed(0)
    return (
        metrics(*(telling(side) for side in sides)),
        metrics(*(torch.randn(len(side), 4, WIDTH, generator=generator) for side in sides)),
    )


@pytest.mark.exhaustive
def test_features_that_tell_all_are_read_and_random_ones_are_not(told):
    telling, random = told
    for name in ("reader_answers", "reader_answers_object", "reader_answers_ink", "reader_pointing"):
        assert telling[name] > 0.9
    for name in ("reader_answers_object", "reader_answers_ink", "reader_pointing"):
        assert random[name] < 0.65


def test_chance_and_the_blind_reader_depend_on_no_image(told):
    telling, random = told
    assert telling["reader_answers_blind"] == random["reader_answers_blind"] < 0.7
    # A third of the questions ask how many, and the answer is always one; there are three objects, inks and four cells.
    assert telling["reader_answers_chance"] == random["reader_answers_chance"] == pytest.approx((1 + 2 / 3) / 3)
    assert telling["reader_pointing_chance"] == 1 / 4


def shortly(config):
    """Return a tuning that learns some answers."""
    return replaced(config, {"evaluation.reader.questions": 480, "evaluation.reader.batch_size": 8})


def generated(reader, feature_ID, question_T, end_id, max_tokens):
    """Return the likeliest tokens after a question, one by one, up to end-of-text."""
    tokens = list(question_T)
    while len(tokens) < max_tokens:
        _, text_BTE = reader.decoder(feature_ID[None], torch.tensor([tokens]))
        tokens.append(int(reader.decoder.text_head(text_BTE[0, -1]).argmax()))
        if tokens[-1] == end_id:
            break
    return tokens


def test_exact_answers_are_those_that_are_generated(config, pairs, asked):
    features_NID = torch.randn(36, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    reader = tuned(initial(features_NID, config, seed=0), features_NID, asked[1], shortly(config))
    expected = []
    for number, row in enumerate(asked[1].row_M.tolist()):
        token_T = asked[1].captions.token_NT[number].tolist()
        whole = token_T[: int(asked[1].captions.text_len_N[number])]
        question = token_T[: int(asked[1].captions.supervised_NT[number].int().argmax())]
        found = generated(reader, features_NID[row], question, pairs.tokenizer.end_id, config.model.max_text_tokens)
        expected.append(found == whole)
    assert exact(reader, features_NID, asked[1], config).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_blind_answers_are_those_about_one_image(config, asked):
    feature_NID = torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    same = asked[0].about_one_image()
    reader = tuned(initial(feature_NID, config, seed=0), feature_NID, same, shortly(config))
    found = exact_blind(reader, feature_NID, asked[0], config)
    assert found.tolist() == exact(reader, feature_NID, same, config).tolist()
    assert found.any()


@given(
    num_asked=st.lists(st.integers(0, 4), min_size=1, max_size=9).filter(any),
    questions=st.integers(1, 60),
    batch_size=st.integers(1, 20),
)
def test_every_question_is_read_once_before_one_is_read_again(num_asked, questions, batch_size):
    image_M = np.repeat(np.arange(len(num_asked)), num_asked)
    options = ReaderConfig(samples=1, questions=questions, batch_size=batch_size)
    batches = batches_by_image(options, image_M, seed=0)
    assert len(batches) == max(questions // batch_size, 1)
    order = np.concatenate(batches)
    assert len(order) == questions
    for start in range(0, questions, len(image_M)):
        epoch = order[start : start + len(image_M)]
        assert len(set(epoch.tolist())) == len(epoch)
        assert np.count_nonzero(np.diff(image_M[epoch])) == len(set(image_M[epoch].tolist())) - 1, "one after the other"


def test_chance_is_the_most_frequent_answer_to_questions_of_a_kind(asked):
    tuning = replace(
        asked[0],
        kind_M=np.array(["ink", "ink", "ink", "count", "count"], dtype=object),
        answer_M=np.array(["red", "blue", "red", "two", "one"], dtype=object),
    )
    assert most_frequent(tuning, np.array(["count", "ink", "place"], dtype=object)).tolist() == ["one", "red", None]


def test_training_without_a_question_has_no_answers(config, asked):
    none = asked[0].rows(np.arange(0))
    features_NID = torch.zeros(36, 4, WIDTH)
    reader = initial(features_NID, config, seed=0)
    assert measure(reader, features_NID, none, features_NID, asked[1], np.arange(36), config) == {}
