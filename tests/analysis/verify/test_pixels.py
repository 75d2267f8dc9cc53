"""3a: errors against the evaluation's own loss and obvious loops; paintings of perfect predictions are the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.evaluation.losses import pixel_loss_at
from aimv2.losses import patchify, standardise
from aimv2.model.network import build
from aimv2.objectives.terms import pixel_targets
from analysis.verify.pixels import FRACTIONS, paint, pixels, predict, unpatchify


def test_the_trained_run_beats_the_mean(subject):
    found = pixels(subject)
    assert found.line.verdict == "PASS"
    assert all(interval.low < interval.mean < interval.high < 0 for interval in found.advantage.values())


def test_random_weights_do_not(subject):
    line = pixels(replace(subject, model=build(subject.config).eval())).line
    assert line.verdict == "FAIL"


def test_beating_the_mean_at_two_prefixes_is_not_enough(small, monkeypatch):
    def spoilt(subject, rows, prefix_len):
        return predict(subject, rows, prefix_len) * (3 if prefix_len == 12 else 1)

    monkeypatch.setattr("analysis.verify.pixels.predict", spoilt)
    assert pixels(small).line.verdict == "FAIL"


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"objective": {"pixel_targets": "raw"}},
        {"decoder": {"order": "text_first"}},
        {"model": {"patch_order": "spiral"}},
    ],
)
def test_the_networks_error_is_the_evaluations_loss(variant, kind):
    subject = variant(**kind)
    for fraction, errors in pixels(subject).errors.items():
        assert errors.model_N.mean() == pytest.approx(
            pixel_loss_at(subject.model, subject.names, fraction, subject.config), rel=1e-5
        )


def test_baselines_are_the_obvious_ones(small):
    errors = pixels(small).errors[0.5]
    target_NIP = standardise(patchify(small.names.image, 4)).double().numpy()
    for row in range(5):
        mean = [np.mean(target_NIP[row, i] ** 2) for i in range(8, 16)]
        previous = [np.mean((target_NIP[row, i] - target_NIP[row, i - 1]) ** 2) for i in range(8, 16)]
        assert errors.mean_N[row] == pytest.approx(np.mean(mean), rel=1e-5)
        assert errors.previous_N[row] == pytest.approx(np.mean(previous), rel=1e-5)


def test_for_raw_targets_the_mean_is_the_best_constant_patch(variant):
    subject = variant(objective={"pixel_targets": "raw"})
    errors = pixels(subject).errors[0.25]
    patch_NIP = patchify(subject.names.image, 4).double().numpy()
    constant_P = patch_NIP.reshape(-1, 48).mean(axis=0)
    assert errors.mean_N == pytest.approx(((patch_NIP[:, 4:] - constant_P) ** 2).mean(axis=(1, 2)), rel=1e-4)


def test_predictions_see_the_prefix_and_earlier_patches_alone(small):
    rows = np.arange(6)
    before = predict(small, rows, 4)
    changed = replace(small)
    image = small.names.image.clone()
    image[:, :, 8:12, 8:12] += 1  # patch 10, from 0
    vars(changed)["names"] = replace(small.names, image=image)
    is_same = (predict(changed, rows, 4) == before).all(dim=2).all(dim=0)
    assert is_same.tolist() == [True] * 10 + [False] * 5  # entry i is of patch i + 1


@pytest.mark.parametrize("order", ["raster", "spiral"])
@pytest.mark.parametrize("targets", ["standardised", "raw"])
def test_perfect_predictions_paint_the_image(variant, monkeypatch, order, targets):
    subject = variant(model={"patch_order": order}, objective={"pixel_targets": targets})
    rows = np.arange(3)
    monkeypatch.setattr(
        "analysis.verify.pixels.predict",
        lambda subject, rows, prefix_len: pixel_targets(subject.names.image[rows], subject.config)[:, 1:],
    )
    for picture in paint(subject, rows):
        for fraction in FRACTIONS:
            difference = picture.painted[fraction].astype(int) - picture.truth.astype(int)
            assert np.abs(difference).max() <= 1, "but for rounding"


def test_a_prefix_shows_its_patches_and_nothing_else(small):
    picture = paint(small, np.arange(1))[0]
    is_shown = (picture.seen[0.5] == picture.truth).all(axis=2)
    assert is_shown[:8].all(), "the upper half of a raster"
    assert (picture.seen[0.5][8:] == 170).all()
    assert (picture.painted[0.5][:8] == picture.truth[:8]).all()
    assert (picture.painted[0.5][8:] != picture.truth[8:]).any()
    cell = picture.means[0.5][8:12, :4].reshape(-1, 3)
    assert (cell == cell[0]).all(), "one colour a patch"


def test_unpatchify_undoes_patchify(images):
    assert torch.equal(unpatchify(patchify(images, 4), 4), images)


@pytest.mark.parametrize("name", ["caption", "clip"])
def test_objectives_without_pixels_say_so(variant, name):
    found = pixels(variant(objective={"name": name}))
    assert found.line.verdict == "NOT APPLICABLE"
    assert f"{name} predicts no pixels" in found.line.found
    assert found.errors == {}
