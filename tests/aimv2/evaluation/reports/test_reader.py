"""The reader of the frozen encoder: how it is trained, and its metrics against those that are computed anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.paths import replaced
from aimv2.data.sources.scene import CONTENT_CLASSES
from aimv2.evaluation.evaluate import evaluate
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import other_images
from aimv2.evaluation.losses import token_nats
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.reports.reader import batches_of, initial, measure, trained
from aimv2.objectives.build import build
from aimv2.spec.metrics import metric_names
from aimv2.spec.objectives import objective


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
    assert 0 <= found["reader_choice_accuracy"].items.value <= 1


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
