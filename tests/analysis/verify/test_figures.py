"""Figures: what their axes show, read from the SVG, and the sizes of pictures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.verify.balance import COLUMNS, Balance
from analysis.verify.check import Check
from analysis.verify.figures import draw_balance, draw_pictures, draw_prefix_lengths, save_thumbnail
from analysis.verify.prefix import PrefixLengths


@pytest.mark.parametrize("num_patches", [4, 256])
def test_prefix_lengths_are_drawn_for_few_and_many_patches(num_patches, tmp_path):
    pmf_I = np.full(num_patches, 1 / num_patches)
    count_I = np.full(num_patches, 5)
    draw_prefix_lengths(PrefixLengths(Check("", None, ""), count_I, pmf_I), "steps", tmp_path / "lengths.svg")
    text = (tmp_path / "lengths.svg").read_text()
    assert f"patches of {num_patches}" in text
    assert f"share of {5 * num_patches:,} steps" in text


@pytest.mark.parametrize("num_recorded", [0, 3])
@pytest.mark.parametrize("num_batches", [0, 2])
def test_balance_is_drawn_with_what_there_is(num_recorded, num_batches, tmp_path):
    recorded = pd.DataFrame(0.5, index=range(num_recorded), columns=["samples", *COLUMNS])
    at_end = pd.DataFrame(0.5, index=range(num_batches), columns=COLUMNS)
    draw_balance(Balance([], recorded, at_end), 0.3, tmp_path / "balance.svg")
    text = (tmp_path / "balance.svg").read_text()
    assert ("not recorded" in text) == (num_recorded == 0)
    assert ("this run's alpha, 0.3" in text) == (num_batches > 0)


def test_figures_are_reproducible(tmp_path):
    lengths = PrefixLengths(Check("", None, ""), np.array([1, 2]), np.array([0.5, 0.5]))
    for name in ("one.svg", "two.svg"):
        draw_prefix_lengths(lengths, "samples", tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_pictures_are_drawn_in_columns(tmp_path):
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    for num_columns in (2, 4):
        columns = {f"column {number}": [image] * 3 for number in range(num_columns)}
        draw_pictures(columns, tmp_path / f"{num_columns}.png")
    narrow, wide = (plt.imread(tmp_path / name).shape for name in ("2.png", "4.png"))
    assert wide[:2] == (narrow[0], 2 * narrow[1])


@pytest.mark.parametrize(("size", "expected"), [(16, 96), (32, 96), (40, 80), (224, 224)])
def test_thumbnail_is_enlarged_by_whole_pixels(size, expected, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    save_thumbnail(image, tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as opened:
        saved = np.array(opened)
    assert saved.shape == (expected, expected, 3)
    assert (saved[:: expected // size, :: expected // size] == image).all()
