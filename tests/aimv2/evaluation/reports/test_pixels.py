from dataclasses import replace

import pytest

from aimv2.evaluation.features import Encoded
from aimv2.evaluation.losses import pixel_errors
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.reports import pixels
from aimv2.objectives.build import build


def test_pixels_are_measured_on_the_first_pairs_after_each_prefix(tiny, pairs):
    config = replace(tiny, evaluation=replace(tiny.evaluation, num_pairs=20, prefix_fractions=(0.25, 0.5)))
    model, prepared = build(config), prepare_evaluation(pairs, config, lambda *data: [])
    measured = pixels.measure(model, Encoded(model.encoder, prepared.held_out.images, config), prepared)
    assert list(measured) == ["pixel_loss_0.25", "pixel_loss_0.5"]
    for name, fraction in (("pixel_loss_0.25", 0.25), ("pixel_loss_0.5", 0.5)):
        errors = pixel_errors(model, prepared.held_out, fraction, config)
        assert measured[name].items.item_N.tolist() == prepared.held_out.item_N[:20].tolist()
        assert measured[name].items.value == pytest.approx(errors[:20].mean())
    point = pixels.curve(model, prepared.held_out, config)
    assert point == {"held_out_pixel_loss": pytest.approx(errors.mean())}, "after half of the image"
