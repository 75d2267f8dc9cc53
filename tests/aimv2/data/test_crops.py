"""Crop boxes, beside torchvision's own code."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.transforms.transforms as theirs
from hypothesis import given
from hypothesis import strategies as st

from aimv2.config.data_config import AugmentConfig, DataConfig
from aimv2.data.crops import CROP_ATTEMPTS, NUM_CROP_DRAWS, native_crop, random_crop, random_crops

PAPER = AugmentConfig().of(DataConfig(sources=("openmoji",)))
RANGES = {
    "scale": st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    "ratio": st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
}


def draws(count, seed=0):
    return np.random.default_rng(seed).random((count, NUM_CROP_DRAWS))


def of_torchvision(uniform_U, height, width, scale, ratio):
    """Run torchvision's code with our uniform numbers in place of its random ones, in float64."""
    attempts = zip(uniform_U[:CROP_ATTEMPTS], uniform_U[CROP_ATTEMPTS:], strict=False)
    uniforms = iter([number for attempt in attempts for number in attempt])
    offsets = iter(uniform_U[-3:-1])

    def number(value):
        return torch.as_tensor(value, dtype=torch.float64)

    fake = SimpleNamespace(
        tensor=number,
        log=torch.log,
        exp=torch.exp,
        empty=lambda size: SimpleNamespace(uniform_=lambda low, high: number(low + next(uniforms) * (high - low))),
        randint=lambda low, high, size: number(int(low + next(offsets) * (high - low))).int(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "torch", fake)
        image = SimpleNamespace(shape=(3, height, width))
        patch.setattr(theirs.F, "get_dimensions", lambda image: image.shape)
        return list(theirs.RandomResizedCrop.get_params(image, list(scale), list(ratio)))


# torchvision's largest box can be empty if a side is shorter than 10 px; ours has at least one pixel.
@given(seed=st.integers(0, 10**6), height=st.integers(16, 700), width=st.integers(16, 700), **RANGES)
def test_boxes_are_torchvisions(seed, height, width, scale, ratio):
    config = replace(PAPER, min_scale=scale[0], max_scale=scale[1], min_ratio=ratio[0], max_ratio=ratio[1])
    boxes, _ = random_crops(draws(4, seed), height, width, config)
    expected = [of_torchvision(uniform_U, height, width, scale, ratio) for uniform_U in draws(4, seed)]
    assert boxes.tolist() == expected


@given(seed=st.integers(0, 10**6), height=st.integers(1, 300), width=st.integers(1, 300), **RANGES)
def test_boxes_are_within_the_image(seed, height, width, scale, ratio):
    config = replace(PAPER, min_scale=scale[0], max_scale=scale[1], min_ratio=ratio[0], max_ratio=ratio[1])
    boxes, _ = random_crops(draws(8, seed), height, width, config)
    top, left, rows, columns = boxes.T
    assert (rows >= 1).all()
    assert (columns >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= height).all()
    assert (left + columns <= width).all()


def test_boxes_cover_the_papers_ranges():
    boxes, flips = random_crops(draws(20_000), 1000, 1000, PAPER)
    _, _, height, width = boxes.T.astype(float)
    area, ratio = height * width / 1000**2, width / height
    assert area.min() == pytest.approx(0.4, abs=0.01)
    assert area.max() == pytest.approx(1.0, abs=0.01)
    assert ratio.min() == pytest.approx(0.75, abs=0.01)
    assert ratio.max() == pytest.approx(1.33, abs=0.01)
    assert flips.mean() == pytest.approx(0.5, abs=0.02)


def test_boxes_of_squares_are_pinned():
    # Runs on scenes have these boxes under their stored names.
    boxes, flips = random_crops(draws(3), 48, 48, PAPER)
    assert boxes.tolist() == [[0, 0, 39, 46], [3, 1, 40, 45], [2, 13, 36, 35]]
    assert flips.tolist() == [False, False, True]


@pytest.mark.parametrize(("height", "width"), [(300, 100), (64, 400), (200, 200)])
def test_native_crops_have_about_the_aspect_ratio_of_the_image(height, width):
    crops = [native_crop(uniform_U, height, width, PAPER) for uniform_U in draws(200)]
    ratios = np.array([crop.width / crop.height for crop in crops]) * height / width
    assert 0.7 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.4
    shares = [crop.width * crop.height / height / width for crop in crops]
    assert 0.38 < min(shares) < 0.5


def test_native_crops_of_squares_are_random_crops():
    for uniform_U in draws(20):
        assert native_crop(uniform_U, 90, 90, PAPER) == random_crop(uniform_U, 90, 90, PAPER)
