import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aimv2.config.data_config import AugmentConfig, DataConfig
from aimv2.data.decode import NUM_CROP_DRAWS, random_crops
from aimv2.data.transforms import (
    IMAGENET,
    centred_images,
    crop_and_resize,
    hide_patches,
    network_input,
    normalised,
    resized_within,
    strips,
    unnormalise,
)

SIDE = 48
PAPER = AugmentConfig().of(DataConfig(sources=("openmoji",)))


def pictures(count, side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def draws(count, seed=0):
    return np.random.default_rng(seed).random((count, NUM_CROP_DRAWS))


def raw(normalised):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    return (normalised * std + mean) * 255


@pytest.mark.parametrize("out_px", [16, 32, 70])
def test_crop_and_resize_matches_torch(out_px):
    images = pictures(12)
    boxes, flips = random_crops(draws(12), SIDE, SIDE, PAPER)
    actual = raw(crop_and_resize(torch.from_numpy(images), boxes, flips, out_px))
    assert len({tuple(box) for box in boxes}) > 6
    assert 0 < flips.sum() < 12
    for row, (top, left, height, width) in enumerate(boxes):
        crop = torch.from_numpy(images[row, top : top + height, left : left + width]).permute(2, 0, 1)[None].float()
        expected = F.interpolate(crop, (out_px, out_px), mode="bicubic", antialias=True, align_corners=False)[0]
        expected = expected.flip(-1) if flips[row] else expected
        torch.testing.assert_close(actual[row], expected.clamp(0, 255), rtol=0, atol=0.02)


def test_crop_and_resize_matches_pillow_to_its_rounding():
    images = 90 + pictures(4) // 4  # far from 0 and 255, where Pillow clips between its two passes
    actual = centred_images(images, 32)
    for row in range(4):
        crop = Image.fromarray(images[row]).crop((3, 3, 45, 45))  # 0.875 of 48 px
        expected = np.asarray(crop.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        # Pillow rounds after each pass.
        assert np.abs(unnormalise(actual[row]).astype(int) - expected).max() <= 1


@given(seed=st.integers(0, 1000), fraction=st.sampled_from([0.0, 0.25, 0.5, 0.8]))
def test_hide_patches_hides_the_same_share_of_every_image(seed, fraction):
    """The obvious loop: the patches with the smallest numbers are 0, all others unchanged."""
    image = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    uniform_BI = np.random.default_rng(seed).random((3, 16))
    hidden = hide_patches(image, uniform_BI, fraction)
    for number in range(3):
        smallest = set(np.argsort(uniform_BI[number])[: round(fraction * 16)].tolist())
        for patch in range(16):
            row, column = divmod(patch, 4)
            here = (number, slice(None), slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
            expected = torch.zeros(3, 2, 2) if patch in smallest else image[here]
            assert torch.equal(hidden[here], expected)


def test_scenes_are_not_flipped_and_hardly_cropped():
    scenes = AugmentConfig().of(DataConfig())
    assert (scenes.min_scale, scenes.flip_probability) == (0.9, 0.0)
    assert (PAPER.min_scale, PAPER.flip_probability) == (0.4, 0.5)  # Table A1
    own = AugmentConfig(min_scale=0.5, flip_probability=0.1)
    assert own.of(DataConfig()) == own


GRID_SIZES = [(8, 8), (4, 12), (12, 4), (4, 20)]


def of_sizes():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=generator) for size in GRID_SIZES]


def test_strips_have_the_patches_in_raster_order_and_then_zeros():
    """Oracle: a loop over patches and pixels."""
    strip, grids = strips(of_sizes(), patch_px=4, area=6)
    assert strip.shape == (4, 3, 4, 24)
    assert grids.tolist() == [[2, 2], [1, 3], [3, 1], [1, 5]]
    for own, image, (rows, columns) in zip(strip, of_sizes(), grids.tolist(), strict=True):
        for number in range(6):
            patch = own[:, :, 4 * number : 4 * number + 4]
            if number >= rows * columns:
                assert not patch.any()
                continue
            top, left = 4 * (number // columns), 4 * (number % columns)
            assert torch.equal(patch, image[:, top : top + 4, left : left + 4])


@pytest.mark.parametrize("area", [4, 12, 30])
def test_resized_crops_are_those_of_one_image_alone(area):
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8))
    box_B4 = np.array([[0, 0, 40, 40], [3, 2, 20, 30], [0, 5, 30, 20], [1, 1, 20, 30], [0, 0, 40, 10]])
    flip_B = np.array([False, True, False, True, True])
    found = resized_within(pictures, (box_B4, flip_B), patch_px=4, area=area)
    for row, image in enumerate(found):
        height, width = image.shape[1:]
        assert height % 4 == width % 4 == 0
        assert 2 <= height * width // 16 <= area
        alone = crop_and_resize(
            torch.from_numpy(pictures[row][None]), box_B4[row : row + 1], flip_B[row : row + 1], (height, width)
        )
        torch.testing.assert_close(image, alone[0])


def test_strips_of_pictures_are_normalised_as_the_pictures_are():
    """Bitwise, with padding that is 0 and not black."""
    images = [torch.from_numpy(pictures(1)[0, :height, :width].copy()).permute(2, 0, 1) for height, width in GRID_SIZES]
    strip, grids = strips(images, patch_px=4, area=6)
    assert strip.dtype == torch.uint8
    alone, _ = strips([normalised(image[None])[0] for image in images], patch_px=4, area=6)
    assert torch.equal(normalised(strip, grids), alone)


def test_normalised_images_have_the_mean_and_the_deviation_of_each_channel():
    images = pictures(2)
    found = network_input(torch.from_numpy(images))
    for channel, (mean, std) in enumerate(zip(IMAGENET.mean, IMAGENET.std, strict=True)):
        np.testing.assert_allclose(found[:, channel], (images[..., channel] / 255 - mean) / std, rtol=1e-5, atol=1e-6)
