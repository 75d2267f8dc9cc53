from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.data.transfer import Labelled, TransferSet, digits
from aimv2.data.transforms import CENTRE_CROP, centred_images
from aimv2.evaluation.evaluate import encode, evaluate, held_out_curve, probe
from aimv2.model.network import build
from aimv2.objectives import objective

CAPTIONS = {"caption_loss", "caption_bits", "causal_caption_loss", "name_loss", "description_loss"}
PIXELS = {f"pixel_loss_{fraction}" for fraction in (0.25, 0.5, 0.75)}
RAW_PIXELS = {f"raw_{name}" for name in PIXELS}
RETRIEVAL = {f"{way}_recall_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5)}


def variant(config, name="aimv2", order="image_first", **objective):
    model = replace(config.model, decoder=replace(config.model.decoder, order=order))
    return replace(config, model=model, objective=replace(config.objective, name=name, **objective))


def test_features_are_the_encoders_under_full_attention(tiny):
    encoder = build(tiny).encoder
    part = digits().validation
    features = encode(encoder, part, tiny)
    assert features.feature_NID.shape == (len(part), 16, 32)
    assert not features.feature_NID.requires_grad
    assert features.label_N.tolist() == part.labels.tolist()
    with torch.no_grad():
        one = encoder(centred_images(part.images[7:8], 16))
    torch.testing.assert_close(features.feature_NID[7:8], one)


@torch.no_grad()
def test_no_row_or_column_of_a_small_image_is_lost(tiny):
    """Every border pixel of a digit, made white, reaches the features. A crop would lose some of them."""
    encoder, part = build(tiny).encoder, digits().test
    assert digits().is_whole
    black = np.zeros_like(part.images[:1])
    borders = np.repeat(black, 32, axis=0)
    for row, (top, left) in enumerate((edge, place) for edge in (0, 7) for place in range(8)):
        borders[row, top, left] = borders[16 + row, left, top] = 255
    pictures = Labelled(np.concatenate([black, borders]), np.zeros(33, dtype=np.int64))
    for share, is_seen in ((1.0, True), (CENTRE_CROP, False)):
        feature_NID = encode(encoder, pictures, tiny, share).feature_NID
        assert bool((feature_NID[1:] != feature_NID[:1]).any(dim=(1, 2)).all()) == is_seen


@pytest.mark.parametrize("is_whole", [True, False])
def test_probes_see_the_last_row_of_whole_images(tiny, is_whole):
    """Only the last of eight rows tells the classes apart, and the crop cuts it."""
    images, labels = np.zeros((40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2
    images[labels == 1, -1] = 255
    part = Labelled(images, labels)
    measured = probe(build(tiny).encoder, TransferSet("digits", 2, part, part, part, is_whole), tiny)
    assert measured["knn_digits"][0] == (1.0 if is_whole else 0.5)


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
def test_metric_that_does_not_apply_has_a_reason_instead_of_a_value(tiny, pairs, changes, applicable):
    config = variant(tiny, **changes)
    goal = objective(config.objective.name)
    metrics = evaluate(build(config), goal, *pairs, config, transfer=lambda train, held_out: [])
    assert set(metrics) == CAPTIONS | PIXELS | RAW_PIXELS | RETRIEVAL
    assert {name for name, metric in metrics.items() if metric.value is not None} == applicable
    absent = [metric for name, metric in metrics.items() if name not in applicable]
    assert all(metric.evaluation.startswith("not applicable to objective") and metric.unit for metric in absent)
    by_targets = {name for name, metric in metrics.items() if metric.value is None and "targets" in metric.evaluation}
    assert by_targets <= PIXELS | RAW_PIXELS


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("aimv2", "held_out_caption_loss"),
        ("image_only", "held_out_pixel_loss"),
        ("siglip", "held_out_recall"),
    ],
)
def test_curve_measures_the_first_report_of_the_objective(tiny, pairs, name, column):
    config = variant(tiny, name)
    measured = held_out_curve(objective(name), pairs[1], pairs[2], config)(build(config))
    assert list(measured) == [column]
    assert 0 <= measured[column] < 20
