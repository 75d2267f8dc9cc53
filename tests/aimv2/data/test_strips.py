"""Strips of patches beside loops over pixels and images."""

import numpy as np
import pytest
import torch

from aimv2.data.strips import normalised, resized, strips
from aimv2.data.transforms import crop_and_resize, network_input
from aimv2.losses import patchify

SIZES = [(8, 8), (4, 12), (12, 4), (4, 20)]


def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=generator) for size in SIZES]


def test_strips_have_the_patches_in_raster_order_and_then_zeros():
    """Oracle: a loop over patches and pixels."""
    strip, grids = strips(images(), patch_px=4, area=6)
    assert strip.shape == (4, 3, 4, 24)
    assert grids.tolist() == [[2, 2], [1, 3], [3, 1], [1, 5]]
    for own, image, (rows, columns) in zip(strip, images(), grids.tolist(), strict=True):
        for number in range(6):
            patch = own[:, :, 4 * number : 4 * number + 4]
            if number >= rows * columns:
                assert not patch.any()
                continue
            top, left = 4 * (number // columns), 4 * (number % columns)
            assert torch.equal(patch, image[:, top : top + 4, left : left + 4])


def test_pixel_targets_read_a_strip_like_its_image():
    strip, grids = strips(images(), patch_px=4, area=6)
    for found, image, num_own in zip(patchify(strip, 4), images(), grids.prod(dim=1).tolist(), strict=True):
        assert torch.equal(found[:num_own], patchify(image[None], 4)[0])


@pytest.mark.parametrize("area", [4, 12, 30])
def test_resized_crops_are_those_of_one_image_alone(area):
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8))
    box_B4 = np.array([[0, 0, 40, 40], [3, 2, 20, 30], [0, 5, 30, 20], [1, 1, 20, 30], [0, 0, 40, 10]])
    flip_B = np.array([False, True, False, True, True])
    found = resized(pictures, (box_B4, flip_B), patch_px=4, area=area)
    for row, image in enumerate(found):
        height, width = image.shape[1:]
        assert height % 4 == width % 4 == 0
        assert 2 <= height * width // 16 <= area
        alone = crop_and_resize(
            torch.from_numpy(pictures[row][None]), box_B4[row : row + 1], flip_B[row : row + 1], (height, width)
        )
        torch.testing.assert_close(image, alone[0])


def test_pictures_of_any_size_are_normalised():
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    (found,) = normalised([picture[:, ::-1]])
    assert torch.equal(found, network_input(torch.from_numpy(picture[:, ::-1].copy())[None])[0])
