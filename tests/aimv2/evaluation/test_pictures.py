"""Written captions against full passes without a cache, and pictures of predictions."""

import io
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from aimv2.config.training_config import LogConfig
from aimv2.data.transforms import unnormalise
from aimv2.definitions.objectives import objective
from aimv2.evaluation.pictures import completed, drawn_predictions, examples, greedy, unseen, with_contrast
from aimv2.evaluation.sheet import GAP, LINE_PX, PADDING
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.objectives.build import build
from tests.helpers.training import changed

VARIANTS = {
    "joint": {},
    "separate": {"sharing": "separate"},
    "text_first": {"order": "text_first"},
    "image_positions": {"image_positions": True},
    "layer_norm": {"norm": "layer"},
    "gelu": {"ffn": "gelu"},
    "deeper": {"depth": 3, "width": 48, "num_heads": 3},
    "cappa": {},
}


def opinionated(config):
    """Return the run's network with weights so large that captions differ and no two tokens are close."""
    model = build(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.3, generator=generator)
    return model


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, tiny):
    config = replace(tiny, model=replace(tiny.model, decoder=replace(tiny.model.decoder, **VARIANTS[request.param])))
    if request.param == "cappa":
        config = replace(config, objective=replace(config.objective, name="cappa"))
    return opinionated(config)


@torch.no_grad()
def next_logits(model, image, token_BT):
    """Return the decoder's logits of the next token, [B, V], from one pass without a cache."""
    text_len_B = torch.full((len(image),), token_BT.shape[1])
    _, text_BSE = model(image, token_BT, None, text_len_B)
    return model.decoder.text_head(text_BSE[:, -1])


def test_greedy_writes_the_most_likely_token_of_a_full_pass(model, images):
    tokens = torch.empty((len(images), 0), dtype=torch.int64)
    for _ in range(12):
        tokens = torch.cat([tokens, next_logits(model, images, tokens).argmax(dim=-1, keepdim=True)], dim=1)
    written = greedy(model, images, 12)
    assert written.dtype == torch.int64
    assert torch.equal(written, tokens)
    assert torch.equal(greedy(model, images, 4), tokens[:, :4])
    assert len(tokens.unique()) > 3, "captions of one token would show nothing"


@torch.no_grad()
def test_cached_logits_match_a_full_pass(model, images, tokens):
    model, images = deepcopy(model).double(), images.double()
    hidden, cache = model.decoder.begin(model.encoder(images))
    for place in range(tokens.shape[1] + 1):
        expected = next_logits(model, images, tokens[:, :place])
        torch.testing.assert_close(model.decoder.text_head(hidden), expected)
        if place < tokens.shape[1]:
            hidden = model.decoder.extend(tokens[:, place], cache)


def test_examples_have_the_reference_and_the_models_caption(tiny, pairs):
    model, held_out = build(tiny), pairs.held_out.subset(3)
    shown = examples(model, held_out, pairs.tokenizer, tiny)
    rows = np.arange(3)
    assert [example["reference"] for example in shown] == [c.text for c in held_out.captions(rows, "dense")]
    assert [example["key"] for example in shown] == held_out.keys(rows)
    assert all(set(example) == {"key", "reference", "written", "png"} for example in shown)
    assert examples(model, held_out.subset(0), pairs.tokenizer, tiny) == []


@pytest.mark.parametrize("targets", ["standardised", "raw"])
@pytest.mark.parametrize("order", ["raster", "spiral"])
def test_perfect_predictions_are_completed_to_the_image(tiny, images, order, targets):
    config = changed(tiny, {"model.patch_order": order, "objective.pixel_targets": targets})
    target_BIP = pixel_targets(images, config)[:, 5:]
    found = completed(images, with_contrast(target_BIP, images, 5, config), 5, config.model)
    for picture, image in zip(found, images, strict=True):
        assert np.abs(picture.astype(int) - unnormalise(image).astype(int)).max() <= 1, "but for rounding"


def test_prefix_is_shown_with_its_patches_and_nothing_else(tiny, images):
    (picture, *_) = completed(images, unseen(tiny.model), 8, tiny.model)
    assert (picture[:8] == unnormalise(images[0])[:8]).all(), "the upper half of a raster"
    assert (picture[8:] == 170).all()


@pytest.fixture
def drawn(tiny, pairs):
    """Return a function that draws an untrained run's predictions at these steps: pictures by step."""

    def draw(changes, steps):
        config = changed(tiny, changes)
        found = {}
        draw = drawn_predictions(
            objective(config.objective.name), pairs, config, lambda png, step: found.update({step: png})
        )
        model = build(config)
        for step in steps:
            draw(model, step)
        return {step: np.asarray(Image.open(io.BytesIO(png))) for step, png in found.items()}

    return draw


@pytest.mark.parametrize(
    ("changes", "num_pictures", "has_text"),
    [
        ({}, 3, True),
        ({"model.decoder.order": "text_first"}, 3, True),
        ({"objective.supervise_eos": True}, 3, True),
        ({"objective.name": "image_only"}, 3, False),
        ({"objective.name": "caption"}, 1, True),
        ({"objective.name": "cappa"}, 1, True),
    ],
    ids=str,
)
def test_objective_is_drawn_with_what_it_predicts(drawn, changes, num_pictures, has_text):
    ((step, picture),) = drawn(changes, [2]).items()
    assert step == 2
    side = 128
    columns = num_pictures * (side + GAP)
    if has_text:
        assert 0 <= picture.shape[1] - (columns + 330) < 80 or num_pictures == 1, "captions beside the pictures"
    else:
        assert picture.shape[1] == max(columns, 600) + 2 * PADDING
    assert picture.shape[0] > 4 * side, "four rows"


def test_contrastive_objective_is_not_drawn(drawn):
    assert drawn({"objective.name": "clip"}, [0, 2]) == {}


def test_prediction_is_drawn_beside_the_image_and_its_prefix(drawn):
    picture = drawn({"objective.name": "image_only"}, [2])[2]
    top, side, gap, left = PADDING + 3 * LINE_PX, 128, GAP, PADDING
    image, seen, predicted = (
        picture[top + 1 : top + side - 1, left + n * (side + gap) + 1 : left + n * (side + gap) + side - 1]
        for n in range(3)
    )
    upper = slice(0, side // 2 - 2)
    assert (image[upper] == seen[upper]).all()
    assert (image[upper] == predicted[upper]).all()
    lower = slice(side // 2, None)
    assert (seen[lower] == 170).all()
    assert (image[lower] != predicted[lower]).any()


@pytest.mark.parametrize(
    ("points", "steps"), [(0, []), (1, [10]), (2, [0, 10]), (3, [0, 5, 10]), (99, [0, 2, 5, 8, 10])]
)
def test_predictions_are_drawn_at_points_of_the_curve(tiny, pairs, with_samples, points, steps):
    config = replace(with_samples(tiny, 80), log=LogConfig(picture_points=points))
    config = replace(config, evaluation=replace(config.evaluation, curve_points=5))
    found = []
    draw = drawn_predictions(objective("aimv2"), pairs, config, lambda png, step: found.append(step))
    model = build(config)
    for step in range(11):
        draw(model, step)
    assert found == steps


def test_drawing_changes_no_weight(tiny, pairs):
    model = build(tiny)
    drawn_predictions(objective("aimv2"), pairs, tiny, lambda png, step: None)(model, 2)
    start = build(tiny).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
