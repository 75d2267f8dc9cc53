"""The reader of the frozen encoder: how it is trained and tuned, and its metrics computed anew."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.program import replaced
from aimv2.data.pairs import Selected
from aimv2.data.sources.scene import CONTENT_CLASSES, Caption, Scene, Thing, questions
from aimv2.definitions.metrics import metric_names
from aimv2.definitions.objectives import objective
from aimv2.evaluation.evaluate import evaluate
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import Words, other_images, prepare_captions
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.questions import prepare_questions
from aimv2.evaluation.reader import (
    answers,
    batches_by_image,
    batches_of,
    exact,
    exact_blind,
    fit,
    initial,
    measure,
    most_frequent,
    trained,
    tuned,
)
from aimv2.evaluation.reports import token_nats
from aimv2.objectives.build import build


@pytest.fixture(scope="module")
def read(tiny):
    """The tiny run with whole captions, and a reader that sees 40 pairs 16 times."""
    reader = ReaderConfig(samples=640, pairs=40, width=32, depth=1, batch_size=16, peak_lr=1e-2, questions=48)
    evaluation = replace(tiny.evaluation, reader=reader)
    return replace(tiny, model=replace(tiny.model, max_text_tokens=24), evaluation=evaluation)


@pytest.fixture(scope="module")
def prepared(read, pairs):
    return prepare_evaluation(pairs, read, lambda *data: [])


@pytest.fixture(scope="module")
def model(read):
    return build(read)


@pytest.fixture(scope="module")
def features(read, model, prepared):
    """The features of the pairs that the reader is trained on."""
    return encode(model.encoder, prepared.reading.images, read)


def nats(reader, feature_NID, captions, config):
    return float(token_nats(reader, feature_NID, captions, config)[captions.supervised_NT].mean())


@pytest.mark.parametrize(("samples", "num_captions", "sizes"), [(100, 30, [10] * 10), (24, 30, [12, 12]), (3, 9, [3])])
def test_every_caption_is_read_once_before_one_is_read_again(samples, num_captions, sizes):
    options = ReaderConfig(samples=samples, batch_size=min(12 if samples == 24 else 10, samples))
    batches = batches_of(options, num_captions, seed=3)
    assert [len(rows) for rows in batches] == sizes
    order = np.concatenate(batches)
    for start in range(0, len(order), num_captions):
        epoch = order[start : start + num_captions]
        assert len(set(epoch.tolist())) == len(epoch)


def test_reader_learns_the_captions_that_it_is_trained_on(read, prepared, features):
    captions = prepared.reading.dense
    before = nats(initial(features, read, seed=0), features, captions, read)
    after = nats(trained(features, captions, read), features, captions, read)
    assert after < before / 2


def test_reader_reads_features_of_any_scale_and_mean_alike(read, prepared, features):
    captions = prepared.reading.dense.rows(np.arange(8))
    scale_D, shift_D = torch.logspace(0, 2, features.shape[2]), torch.arange(features.shape[2])
    other = features * scale_D + shift_D
    found = token_nats(initial(other, read, seed=0), other[:8], captions, read)
    expected = token_nats(initial(features, read, seed=0), features[:8], captions, read)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    constant = torch.ones_like(features)
    assert torch.isfinite(token_nats(initial(constant, read, seed=0), constant[:8], captions, read)).all()


def test_reader_depends_on_features_and_seed_and_on_nothing_else_of_the_run(read, prepared, features):
    def weights(config):
        return trained(features, prepared.reading.dense, config).state_dict()

    first = weights(read)
    other_run = {"model.decoder.depth": 2, "model.decoder.order": "text_first", "objective.supervise_eos": True}
    again, other = weights(replaced(read, other_run)), weights(replaced(read, {"seed": 1}))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["decoder.text_head.weight"], other["decoder.text_head.weight"])


def test_metrics_are_those_of_the_reader_on_held_out_captions(read, prepared, model, features):
    held_out, told = prepared.held_out, prepared.held_out.first(40)
    encoded = Encoded(model.encoder, held_out.images, read)
    found = measure(model, encoded, prepared)
    reader = trained(features, prepared.reading.dense, read)
    own_NT = token_nats(reader, encoded.full, held_out.dense, read)
    other_NT = token_nats(reader, encoded.full, told.dense, read, image_of_N=other_images(told.dense))
    content = {"": CONTENT_CLASSES, "_object": ("object",), "_count": ("count",)}
    for name, classes in content.items():
        expected = float(own_NT[held_out.dense.of_class(*classes)].mean())
        assert found[f"reader_loss{name}"].items.value == pytest.approx(expected, rel=1e-5)
    words = told.dense.of_class(*CONTENT_CLASSES)
    gain = float((other_NT - own_NT[:40])[words].mean())
    assert found["reader_gain"].items.value == pytest.approx(gain, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["clip", "image_only"])
def test_every_objective_has_the_readers_metrics(read, pairs, name):
    config = replaced(read, {"objective.name": name, "model.encoder.attention": "auto"})
    config = replaced(config, {"model.encoder.attention": objective(name).attention})
    metrics = evaluate(build(config), objective(name), pairs, config, transfer=lambda *data: [])
    names = {metric for metric in metric_names(config) if metric.startswith("reader_")}
    assert {metric for metric in names if metrics[metric].value is not None} == names


def test_a_run_without_a_reader_says_why_it_lacks_the_metrics(tiny, pairs):
    alone = replaced(tiny, {"evaluation.reader.samples": 0})
    metrics = evaluate(build(tiny), objective("aimv2"), pairs, alone, transfer=lambda *data: [])
    assert metrics["reader_loss"].value is None
    assert metrics["reader_loss"].evaluation == "not applicable to a run without a reader (evaluation.reader.samples=0)"


def test_an_image_is_read_once_for_its_texts_and_the_result_is_that_of_separate_ones(read, pairs):
    asked = prepare_questions(pairs.train.subset(6), Words(pairs.tokenizer, 24, supervise_eos=False))
    features_NID = torch.randn(6, read.model.num_patches, 32, generator=torch.Generator().manual_seed(0))
    batches = np.array_split(np.arange(len(asked)), 3)
    shared, separate = initial(features_NID, read, seed=0), initial(features_NID, read, seed=0)
    fit(shared, features_NID, asked.captions, batches, read, image_of_M=asked.row_M)
    fit(separate, features_NID[asked.row_M], asked.captions, batches, read)
    start = initial(features_NID, read, seed=0).state_dict()
    for (name, found), expected in zip(shared.state_dict().items(), separate.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
        assert name.endswith(("mean_D", "std_D")) or not torch.equal(found, start[name])


def test_a_step_in_parts_is_that_of_all_its_texts(read, pairs):
    """Parts of 5 texts, the last one smaller, whose captions have other lengths; their gradients are added."""
    captions = prepare_captions(
        pairs.train.subset(24).captions(np.arange(24), "dense"), Words.of(pairs.tokenizer, read)
    )
    features_NID = torch.randn(24, read.model.num_patches, 32, generator=torch.Generator().manual_seed(0))
    batches = np.array_split(np.arange(24), 2)
    whole, parts = initial(features_NID, read, seed=0), initial(features_NID, read, seed=0)
    fit(whole, features_NID, captions, batches, read)
    fit(parts, features_NID, captions, batches, read, at_once=5)
    for found, expected in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


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
        found = answers(reader, features_NID, asked[0], held_out_NID, asked[1], np.arange(len(sides[1])), config)
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
    assert answers(reader, features_NID, none, features_NID, asked[1], np.arange(36), config) == {}
