"""The metrics of a run: which there are, and what their values are made of."""

import math
import re
from dataclasses import replace

import pytest
import torch

from aimv2.base.errors import RunFailedError
from aimv2.config.program import replaced
from aimv2.data.prepare import prepare
from aimv2.data.transfer import transfer_sets
from aimv2.definitions import metrics
from aimv2.definitions.metrics import metric_names, unit_of
from aimv2.definitions.objectives import objective
from aimv2.evaluation import evaluate as evaluation
from aimv2.evaluation.evaluate import TrainedModel, evaluate, held_out_curve
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.parts import unsaved
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.objectives.build import build
from aimv2.training.world import ALONE
from tests.helpers.ranks import on_ranks

CONTENT = ("object", "ink", "place", "relation", "count")
CAPTIONS = {
    *("caption_loss", "caption_bits", "short_loss", "dense_loss"),
    *("content_loss", "causal_content_loss", "image_gain", "unseen_content_loss"),
    *(f"{name}_{kind}" for name in ("content_loss", "image_gain") for kind in CONTENT),
}
PIXELS = {f"pixel_loss_{fraction}" for fraction in (0.25, 0.5, 0.75)}
RAW_PIXELS = {f"raw_{name}" for name in PIXELS}
RETRIEVAL = {f"{way}_recall_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5)}


def no_transfer(*data):
    return []


def test_every_report_has_its_functions():
    assert set(evaluation.REPORTS) == set(metrics.REPORTS) >= set(evaluation.CURVES)


@pytest.fixture(scope="module")
def long(tiny):
    """The tiny run, with room for whole captions."""
    return replace(tiny, model=replace(tiny.model, max_text_tokens=24))


def variant(config, name="aimv2", order="image_first", **objective):
    model = replace(config.model, decoder=replace(config.model.decoder, order=order))
    return replace(config, model=model, objective=replace(config.objective, name=name, **objective))


PLUGIN = """
from aimv2.extend import Items, metric

@metric("share", lower_is_better=False)
def mean_feature(model):
    assert not model.network.training
    return model.features().mean()

@metric("px", lower_is_better=True)
def brightness(model):
    return Items.of(model.items, model.images.mean(axis=(1, 2, 3)))
"""


def test_metrics_of_a_plugin_are_a_number_or_items_and_are_measured_once(long, pairs, plugged):
    plugged(PLUGIN)
    config = replaced(long, {"evaluation.metrics": ("mean_feature", "brightness")})
    seen = []

    def part(names, measure):
        seen.extend(names)
        return unsaved(names, measure)

    model = build(config).train()
    found = evaluate(model, objective("aimv2"), pairs, config, part, transfer=no_transfer)
    prepared = prepare_evaluation(pairs, config, no_transfer)
    number, items = found["mean_feature"], found["brightness"]
    expected = encode(model.encoder, prepared.held_out.images, config).mean()
    assert (number.value, number.unit, number.items) == (pytest.approx(float(expected)), "share", None)
    assert items.value == items.items.value == pytest.approx(prepared.held_out.images.mean())
    assert re.fullmatch(r"48 held-out pairs, by mine\.py@[0-9a-f]{12}", number.evaluation)
    assert seen.count("metric_mean_feature") == seen.count("metric_brightness") == 1
    assert set(evaluate(model, objective("aimv2"), pairs, long, transfer=no_transfer)) == found.keys() - {
        "mean_feature",
        "brightness",
    }


@pytest.mark.parametrize(
    ("changes", "applicable"),
    [
        ({}, CAPTIONS | PIXELS),
        ({"pixel_targets": "raw"}, CAPTIONS | RAW_PIXELS),
        ({"order": "text_first"}, CAPTIONS | PIXELS),
        ({"name": "caption"}, CAPTIONS),
        ({"name": "cappa"}, CAPTIONS),
        ({"name": "image_only"}, PIXELS),
        ({"name": "clip"}, RETRIEVAL),
        ({"name": "siglip"}, RETRIEVAL),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",  # a set's order differs from process to process
)
def test_metric_that_does_not_apply_has_a_reason_instead_of_a_value(long, pairs, changes, applicable):
    config = variant(long, **changes)
    metrics = evaluate(build(config), objective(config.objective.name), pairs, config, transfer=no_transfer)
    of_objectives = CAPTIONS | PIXELS | RAW_PIXELS | RETRIEVAL
    assert {name for name, metric in metrics.items() if metric.value is not None} & of_objectives == applicable
    absent = {name: metric for name, metric in metrics.items() if metric.value is None}
    assert of_objectives <= set(metrics) <= set(metric_names(config))
    assert all(metric.evaluation.startswith("not applicable to ") and metric.unit for metric in absent.values())
    assert all(metric.items is None for metric in absent.values())


def test_value_of_every_metric_is_that_of_its_items(long, pairs):
    metrics = evaluate(build(long), objective("aimv2"), pairs, long)
    known = set(prepare_evaluation(pairs, long).held_out.item_N.tolist())
    for name, metric in metrics.items():
        if metric.value is None:
            continue
        assert metric.unit == unit_of(name)
        total_N, weight_N = (part.astype(float) for part in metric.items[1:])
        assert metric.value == pytest.approx(math.fsum(total_N) / math.fsum(weight_N))
        if not name.endswith("digits") and name != "unseen_content_loss":
            assert set(metric.items.item_N.tolist()) <= known, f"{name} has the items of the held-out pairs"
    assert {"probe_object", "causal_probe_object", "knn_object", "probe_digits"} <= set(metrics)


@pytest.mark.exhaustive
def test_metrics_of_glyphs_have_no_scenes(tiny):
    config = replace(tiny, data=replace(tiny.data, sources=("openmoji",)))
    metrics = evaluate(build(config), objective("aimv2"), prepare(config.data, config.model.vocab_size), config)
    measured = {name for name, metric in metrics.items() if metric.value is not None}
    assert {"content_loss", "content_loss_object", "image_gain", "probe_emoji_category", "knn_digits"} <= measured
    assert not {name for name in measured if name.endswith(("_place", "_relation", "_count"))}
    assert metrics["content_loss_place"].evaluation == "not applicable to data without scenes"


def test_value_that_is_not_finite_fails_the_run(tiny, pairs):
    model = build(tiny)
    with torch.no_grad():
        model.decoder.text_head.weight.fill_(float("nan"))
    with pytest.raises(RunFailedError, match="caption_loss is nan"):
        evaluate(model, objective("aimv2"), pairs, tiny, transfer=no_transfer)


@pytest.mark.parametrize(
    ("name", "column"),
    [("aimv2", "held_out_caption_loss"), ("image_only", "held_out_pixel_loss"), ("siglip", "held_out_recall")],
)
def test_curve_measures_the_first_report_of_the_objective(tiny, pairs, name, column):
    config = variant(tiny, name)
    measured = held_out_curve(objective(name), pairs, config)(build(config))
    assert list(measured) == [column]
    assert 0 <= measured[column] < 20


def evaluated(world, cases):
    """Evaluate runs, whose weights only rank 0 has, and return the values of their items."""
    found = []
    for config in cases:
        model = build(config if world.rank == 0 else replace(config, seed=7))
        world.equalise(model)
        data, counted = prepare(config.data, config.model.vocab_size), []

        def part(names, measure, counted=counted):
            counted.append(len(names))
            return unsaved(names, measure)

        transfer = transfer_sets if config.objective.name == "aimv2" else no_transfer
        metrics = evaluate(model, objective(config.objective.name), data, config, part, world, transfer)
        tensors = {
            name: [torch.from_numpy(column) for column in metric.items]
            for name, metric in metrics.items()
            if metric.items is not None
        }
        found.append(([*metrics], tensors, {name: metric.evaluation for name, metric in metrics.items()}, counted))
    return found


@pytest.mark.exhaustive
def test_evaluation_of_several_ranks_is_bitwise_that_of_one(long, tmp_path):
    """The images are three batches, so that the fourth rank has none."""
    ranks = 4
    evaluation = replace(long.evaluation, num_items=520, num_pairs=300)
    cases = [variant(replace(long, evaluation=evaluation), name) for name in ("aimv2", "siglip")]
    found, expected = on_ranks(ranks, tmp_path, evaluated, cases), evaluated(ALONE, cases)
    for (names, items, texts, counted), (names_of_one, items_of_one, texts_of_one, counted_of_one) in zip(
        found, expected, strict=True
    ):
        assert names == names_of_one
        assert texts == texts_of_one
        assert items.keys() == items_of_one.keys()
        assert all(
            torch.equal(*columns) for name in items for columns in zip(items[name], items_of_one[name], strict=True)
        )
        assert max(counted) == (ranks if "probe_object" in items else 1), "as many probes at once as there are ranks"
        assert sum(counted) == sum(counted_of_one)


def test_features_are_those_of_the_frozen_encoder(tiny, pairs):
    network, prepared = build(tiny).eval(), prepare_evaluation(pairs, tiny)
    model = TrainedModel(network, tiny, Encoded(network.encoder, prepared.held_out.images, tiny), prepared)
    assert len(model.images) == len(model.items) == 48
    assert model.features() is model.features() is model.encoded.full
    assert model.features(is_causal=True) is model.encoded.causal
    expected = encode(model.network.encoder, model.images[:2], tiny)
    torch.testing.assert_close(model.features(model.images[:2]), expected)
