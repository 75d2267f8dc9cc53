"""Predicted patches as pictures: perfect predictions are the images."""

import numpy as np
import pytest
import torch

from aimv2.data.transforms import unnormalise
from aimv2.evaluation.pictures import completed, unpatchify, unseen, with_contrast
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.objectives.losses import patchify, standardise
from tests.helpers.training import changed


@pytest.mark.parametrize("targets", ["standardised", "raw"])
@pytest.mark.parametrize("order", ["raster", "spiral"])
def test_perfect_predictions_are_completed_to_the_image(tiny, images, order, targets):
    config = changed(tiny, {"model.patch_order": order, "objective.pixel_targets": targets})
    target_BIP = pixel_targets(images, config)[:, 5:]
    found = completed(images, with_contrast(target_BIP, images, 5, config), 5, config.model)
    for picture, image in zip(found, images, strict=True):
        assert np.abs(picture.astype(int) - unnormalise(image).astype(int)).max() <= 1, "but for rounding"


def test_contrast_is_that_of_the_true_patch(tiny, images):
    target_BIP = standardise(patchify(images, 4))
    found = with_contrast(torch.zeros_like(target_BIP[:, 8:]), images, 8, tiny)
    torch.testing.assert_close(found, patchify(images, 4)[:, 8:].mean(dim=2, keepdim=True).expand_as(found))


def test_prefix_is_shown_with_its_patches_and_nothing_else(tiny, images):
    (picture, *_) = completed(images, unseen(tiny.model), 8, tiny.model)
    assert (picture[:8] == unnormalise(images[0])[:8]).all(), "the upper half of a raster"
    assert (picture[8:] == 170).all()


def test_unpatchify_undoes_patchify(images):
    assert torch.equal(unpatchify(patchify(images, 4), 4), images)
