"""Figures: what their axes show and their data, and the sizes of pictures."""

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aimv2.analysis.document.style import style
from aimv2.analysis.verify.balance import COLUMNS, Balance
from aimv2.analysis.verify.check import Check
from aimv2.analysis.verify.figures import draw_balance, draw_pictures, draw_prefix_lengths, thumbnail
from aimv2.analysis.verify.prefix import PrefixLengths


@pytest.mark.parametrize("num_patches", [4, 256])
def test_prefix_lengths_are_drawn_for_few_and_many_patches(num_patches):
    pmf_I = np.full(num_patches, 1 / num_patches)
    count_I = np.full(num_patches, 5)
    with style():
        figure, data = draw_prefix_lengths(PrefixLengths(Check("", None, ""), count_I, pmf_I), "steps")
    (axis,) = figure.axes
    assert f"patches of {num_patches}" in axis.get_xlabel()
    assert axis.get_ylabel() == f"share of {5 * num_patches:,} steps"
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([1 / num_patches] * num_patches)
    assert data["drawn"].tolist() == count_I.tolist()


def test_balance_has_two_norms_and_the_cosine():
    recorded = pd.DataFrame({name: [0.5, 0.25] for name in ("samples", *COLUMNS)})
    with style():
        figure, data = draw_balance(Balance([], recorded, recorded))
    norms, cosine = figure.axes
    assert [line.get_label() for line in norms.lines] == ["pixel loss", "text loss"]
    assert list(cosine.lines[0].get_ydata()) == [0.5, 0.25]
    assert len(data) == 2


def test_pictures_are_drawn_in_columns():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    columns = [{f"column {number}": [image] * 3 for number in range(num_columns)} for num_columns in (2, 4)]
    narrow, wide = (plt.imread(BytesIO(draw_pictures(one))).shape for one in columns)
    assert wide[:2] == (narrow[0], 2 * narrow[1])


@pytest.mark.parametrize(("size", "expected"), [(16, 96), (32, 96), (40, 80), (224, 224)])
def test_thumbnail_is_enlarged_by_whole_pixels(size, expected):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    with Image.open(BytesIO(thumbnail(image))) as opened:
        saved = np.array(opened)
    assert saved.shape == (expected, expected, 3)
    assert (saved[:: expected // size, :: expected // size] == image).all()
