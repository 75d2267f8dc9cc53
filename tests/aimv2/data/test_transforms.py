import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aimv2.config.data_config import AugmentConfig, DataConfig
from aimv2.data.crops import NUM_CROP_DRAWS, random_crops
from aimv2.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    centred_images,
    crop_and_resize,
    hide_patches,
    unnormalise,
)

SIDE = 48
PAPER = AugmentConfig().of(DataConfig(sources=("openmoji",)))


def pictures(count, side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def draws(count, seed=0):
    return np.random.default_rng(seed).random((count, NUM_CROP_DRAWS))


def raw(normalised):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
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


def test_no_augmentation_is_the_whole_image():
    whole = AugmentConfig(min_scale=1, max_scale=1, min_ratio=1, max_ratio=1, flip_probability=0)
    boxes, flips = random_crops(draws(3), SIDE, SIDE, whole)
    assert boxes.tolist() == [[0, 0, SIDE, SIDE]] * 3
    images = pictures(3)
    kept = crop_and_resize(torch.from_numpy(images), boxes, flips, SIDE)
    for row in range(3):
        np.testing.assert_array_equal(unnormalise(kept[row]), images[row])


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
