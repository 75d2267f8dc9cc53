"""The reader of half images: its encodings are those of images that are cut, and it is tested on the same words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aimv2.base.plugins import using
from aimv2.config.program import replaced
from aimv2.definitions.metrics import METRICS
from aimv2.definitions.objectives import objective
from aimv2.evaluation.evaluate import TrainedModel, evaluate
from aimv2.evaluation.held_out import network_inputs
from aimv2.objectives.build import build

FILE = Path(__file__).parents[3] / "analysis" / "metrics" / "partial_images.py"


@pytest.fixture
def measure():
    """The function of the metric, while its file is loaded as a plug-in."""
    with using([FILE]):
        yield METRICS["partial_reader_loss"].measure


@pytest.fixture(scope="module")
def model(tiny, pairs):
    return TrainedModel.of(build(tiny), pairs, tiny)


def test_a_half_is_encoded_like_an_image_that_is_cut_and_attends_fully(measure, tiny, pairs):
    """With positions that are functions of the place, so that the encoder takes an image of another height."""
    config = replaced(tiny, {"model.encoder.positions": "sincos"})
    model = TrainedModel.of(build(config), pairs, config)
    images, half = model.images[:5], tiny.model.num_patches // 2
    expected = model.network.encoder(network_inputs(images, config)[:, :, : tiny.model.image_px // 2]).detach()
    found = measure.__globals__["encodings_of_halves"](model, images)
    torch.testing.assert_close(found[:, :half], expected)
    torch.testing.assert_close(found[:, half:], expected.mean(dim=(0, 1)).expand_as(expected))


def test_the_loss_is_over_the_words_of_the_reader_loss(measure, model, tiny, pairs):
    with torch.no_grad():  # as metrics of plug-ins are measured
        found = measure(model)
    whole = evaluate(model.network, objective(tiny.objective.name), pairs, tiny)["reader_loss"].items
    np.testing.assert_array_equal(found.weight_N, whole.weight_N)
    assert found.value == pytest.approx(whole.value, rel=0.1), "readers of two steps know little of either"
    assert found.value != whole.value
