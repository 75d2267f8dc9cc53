"""Errors against the evaluation's own loss and obvious loops; perfect predictions are rendered as the images."""

from dataclasses import replace

import numpy as np
import pytest

from aimv2.analysis.verify.pixels import FRACTIONS, pixels, predict, render
from aimv2.evaluation.losses import pixel_errors
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.objectives.build import build
from aimv2.objectives.losses import patchify, standardise


def test_trained_run_beats_the_mean(run):
    found = pixels(run)
    assert found.check.verdict == "PASS"
    assert all(interval.low < interval.mean < interval.high < 0 for interval in found.advantage.values())


def test_random_weights_do_not_beat_the_mean(run):
    check = pixels(replace(run, model=build(run.config).eval())).check
    assert check.verdict == "FAIL"


def test_beating_the_mean_at_two_prefixes_is_not_enough(small):
    def spoilt(run, rows, prefix_len):
        return predict(run, rows, prefix_len) * (3 if prefix_len == 12 else 1)

    assert pixels(small, spoilt).check.verdict == "FAIL"


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"objective": {"pixel_targets": "raw"}},
        {"decoder": {"order": "text_first"}},
        {"model": {"patch_order": "spiral"}},
    ],
)
def test_error_of_the_network_equals_the_evaluation(variant, kind):
    run = variant(**kind)
    for fraction, errors in pixels(run).errors.items():
        assert errors.model_N == pytest.approx(pixel_errors(run.model, run.pairs, fraction, run.config), rel=1e-4)


def test_baseline_equals_an_obvious_loop(small):
    errors = pixels(small).errors[0.5]
    target_NIP = standardise(patchify(small.image, 4)).double().numpy()
    for row in range(5):
        mean = [np.mean(target_NIP[row, i] ** 2) for i in range(8, 16)]
        assert errors.mean_N[row] == pytest.approx(np.mean(mean), rel=1e-5)


def test_mean_of_raw_targets_is_the_best_constant_patch(variant):
    run = variant(objective={"pixel_targets": "raw"})
    errors = pixels(run).errors[0.25]
    patch_NIP = patchify(run.image, 4).double().numpy()
    constant_P = patch_NIP.reshape(-1, 48).mean(axis=0)
    assert errors.mean_N == pytest.approx(((patch_NIP[:, 4:] - constant_P) ** 2).mean(axis=(1, 2)), rel=1e-4)


def test_predictions_see_only_the_prefix_and_earlier_patches(small):
    rows = np.arange(6)
    before = predict(small, rows, 4)
    changed = replace(small)
    image = small.image.clone()
    image[:, :, 8:12, 8:12] += 1  # patch 10, from 0
    vars(changed)["image"] = image
    is_same = (predict(changed, rows, 4) == before).all(dim=2).all(dim=0)
    assert is_same.tolist() == [True] * 10 + [False] * 5  # entry i is of patch i + 1


@pytest.mark.parametrize(
    ("order", "targets"), [("raster", "standardised"), ("spiral", "standardised"), ("spiral", "raw")]
)
def test_perfect_predictions_are_rendered_as_the_image(variant, order, targets):
    run = variant(model={"patch_order": order}, objective={"pixel_targets": targets})

    def perfect(run, rows, prefix_len):
        return pixel_targets(run.image[rows], run.config)[:, 1:]

    columns = render(run, np.arange(3), perfect)
    for fraction in FRACTIONS:
        for truth, predicted in zip(columns["image"], columns[f"predicted\nafter {fraction}"], strict=True):
            assert np.abs(predicted.astype(int) - truth.astype(int)).max() <= 1, "but for rounding"
    assert ("means alone\nafter 0.25" in columns) == (targets == "standardised")


def test_prefix_is_rendered_with_its_patches_and_nothing_else(small):
    columns = {title: images[0] for title, images in render(small, np.arange(1)).items()}
    truth, seen = columns["image"], columns["prefix\n0.5"]
    predicted, means = columns["predicted\nafter 0.5"], columns["means alone\nafter 0.25"]
    assert (seen[:8] == truth[:8]).all(), "the upper half of a raster"
    assert (seen[8:] == 170).all()
    assert (predicted[:8] == truth[:8]).all()
    assert (predicted[8:] != truth[8:]).any()
    assert len(np.unique(means[8:12, :4].reshape(-1, 3), axis=0)) == 1, "one colour per patch"
