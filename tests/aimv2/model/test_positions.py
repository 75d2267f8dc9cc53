"""Positions and reading orders against transformers, timm, drawings and obvious loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed
from transformers import Aimv2VisionConfig
from transformers.models.aimv2.modeling_aimv2 import Aimv2VisionEmbeddings

from aimv2.model.positions import in_reading_order, reading_order, resample, sincos, sincos_of_grids

CPU = torch.device("cpu")
SPIRALS = {
    2: """
        0 1
        3 2
    """,
    3: """
        6 7 8
        5 0 1
        4 3 2
    """,
    4: """
         6  7  8  9
         5  0  1 10
         4  3  2 11
        15 14 13 12
    """,
}


@pytest.mark.parametrize(("num_rows", "num_columns", "width"), [(2, 2, 4), (3, 5, 8), (16, 16, 64)])
def test_sincos_matches_transformers(num_rows, num_columns, width):
    config = Aimv2VisionConfig(hidden_size=width, num_attention_heads=1, patch_size=2, is_native=True)
    other = Aimv2VisionEmbeddings(config)
    torch.nn.init.zeros_(other.patch_embed.weight)
    torch.nn.init.zeros_(other.patch_embed.bias)  # zero patches, so that only positions are left
    with torch.no_grad():
        expected = other(torch.zeros(1, 3, 2 * num_rows, 2 * num_columns))[0]
    actual = sincos(num_rows, num_columns, width, CPU)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected)


def test_sincos_of_grids_is_that_of_each_image_alone():
    grids = [(2, 3), (6, 1), (1, 6), (2, 2)]
    found = sincos_of_grids(torch.tensor(grids), 6, 12)
    assert found.shape == (4, 6, 12)
    for own, (rows, columns) in zip(found, grids, strict=True):
        assert torch.equal(own[: rows * columns], sincos(rows, columns, 12, CPU))


@given(order=st.sampled_from(["spiral", "random"]), grid=st.integers(1, 40))
def test_reading_order_is_a_permutation(order, grid):
    assert sorted(reading_order(order, grid)) == list(range(grid * grid))


@pytest.mark.parametrize("grid", SPIRALS)
def test_spiral_matches_the_drawings(grid):
    turn_of_place = [int(turn) for turn in SPIRALS[grid].split()]
    expected = sorted(range(grid * grid), key=turn_of_place.__getitem__)
    assert list(reading_order("spiral", grid)) == expected


@given(grid=st.integers(2, 40))
def test_spiral_steps_to_a_neighbour(grid):
    places = np.array(reading_order("spiral", grid))
    rows, columns = places // grid, places % grid
    assert (abs(np.diff(rows)) + abs(np.diff(columns)) == 1).all()


def test_random_order_is_pinned():
    # Stored runs read patches in this order; it must not change.
    assert reading_order("random", 3) == (6, 8, 0, 2, 5, 4, 3, 7, 1)
    before = reading_order("random", 16)
    reading_order.cache_clear()
    assert reading_order("random", 16) == before


@pytest.mark.parametrize("order", ["raster", "spiral", "random"])
def test_in_reading_order_permutes_patches(order):
    patches = torch.randn(2, 9, 5)
    places = reading_order(order, 3) or range(9)
    read = in_reading_order(patches, order, 3)
    for turn, place in enumerate(places):
        assert torch.equal(read[:, turn], patches[:, place])


@pytest.mark.parametrize(("num_rows", "num_columns"), [(6, 6), (3, 3), (8, 5), (4, 7), (2, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resample_matches_timm(num_rows, num_columns, dtype):
    table = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = resample_abs_pos_embed(table, [num_rows, num_columns], num_prefix_tokens=0)
    actual = resample(table, num_rows, num_columns)
    assert actual.dtype == dtype
    assert actual.shape == (1, num_rows * num_columns, 8)
    torch.testing.assert_close(actual, expected)
