"""The areas of steps, and the grids of images, beside scipy and obvious loops."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from aimv2.base.errors import UsageError
from aimv2.config.native import Steps, grid_within, micro_batch_at, size_within
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.config.training_config import MIN_AREA, NativeConfig

PAPER = NativeConfig(areas=tuple(2**n for n in range(7, 13)))


def steps_of(areas, *, seed=0, num_steps=2000):
    values = {"native.areas": areas, "budget": {"samples": 16 * num_steps, "batch_size": 16}, "seed": seed}
    return Steps(replaced(demo(), values))


@pytest.mark.parametrize("areas", [PAPER.areas, (4, 5), (4, 9, 16), (7,), ()])
def test_areas_have_the_probabilities_of_the_papers_distribution(areas):
    """Oracle: scipy's truncated normal, mapped to the numbers of the areas and rounded."""
    drawn = truncnorm(-1, 1).rvs(200_000, random_state=0)
    counts = Counter(np.rint((drawn + 1) / 2 * (len(areas) - 1)).astype(int).tolist())
    expected = [counts[number] / len(drawn) for number in range(len(areas))]
    np.testing.assert_allclose(NativeConfig(areas=areas).pmf(), expected, atol=5e-3)


def test_areas_are_functions_of_the_seed_and_the_step():
    long, short, other = steps_of((8, 16, 32)), steps_of((8, 16, 32), num_steps=50), steps_of((8, 16, 32), seed=1)
    areas = list(map(long.area, range(50)))
    assert areas == list(map(short.area, range(50)))
    assert areas != list(map(other.area, range(50)))


@pytest.mark.parametrize("areas", [(8, 16, 32, 256), (64,), ()])
def test_steps_have_as_many_patches_and_follow_on_each_other(areas):
    steps = steps_of(areas, num_steps=40)
    sizes = [steps.num_images(step) for step in range(40)]
    assert {size * steps.area(step) for step, size in enumerate(sizes)} == {16 * 16}
    assert [steps.first(step) for step in range(41)] == [sum(sizes[:step]) for step in range(41)]
    for done in (0, 1, 17, 40):
        counts = Counter()
        for step in range(done):
            counts[steps.area(step)] += sizes[step]
        assert +Counter(steps.images_by_area(done)) == counts


@pytest.mark.parametrize(
    ("area", "image", "expected"),
    [(256, (224, 224), (16, 16)), (128, (10, 10), (11, 11)), (12, (30, 10), (6, 2)), (9, (1, 1000), (1, 9))],
)
def test_grids_that_are_easy_to_check(area, image, expected):
    assert grid_within(area, *image) == expected
    assert grid_within(area, *image[::-1]) == expected[::-1]
    assert size_within(*image, patch_px=14, area=area) == tuple(14 * side for side in expected)


@given(area=st.integers(MIN_AREA, 5000), height=st.integers(1, 9000), width=st.integers(1, 9000))
def test_a_grid_fits_its_area_and_has_the_largest_sides_of_the_aspect_ratio(area, height, width):
    rows, columns = grid_within(area, height, width)
    assert min(rows, columns) >= 1
    assert 2 <= rows * columns <= area
    if 1 / area <= height / width <= area:
        for side, exact in ((rows, area * height / width), (columns, area * width / height)):
            assert side**2 <= exact * (1 + 1e-9) < (side + 1) ** 2 * (1 + 1e-9)


@given(
    areas=st.lists(st.sampled_from([4, 6, 8, 9, 16, 25, 32]), min_size=1, unique=True).map(sorted),
    num_patches=st.sampled_from([4, 9, 16, 36]),
    ranks=st.integers(1, 4),
)
def test_batch_multiple_is_the_least_batch_with_whole_images_on_each_rank(areas, num_patches, ranks):
    multiple = NativeConfig(areas=tuple(areas)).batch_multiple(num_patches, ranks)

    def is_whole(size):
        return size % ranks == 0 and all(size * num_patches % (area * ranks) == 0 for area in areas)

    assert is_whole(multiple)
    assert not any(is_whole(size) for size in range(1, min(multiple, 300)))


def test_areas_that_do_not_ascend_or_make_no_whole_images_are_refused():
    for areas in ((16, 8), (8, 8)):
        with pytest.raises(UsageError, match=r"native: areas=\[.*\] must ascend"):
            replaced(demo(), {"native.areas": areas})
    with pytest.raises(UsageError, match=r"native.areas.0: Input should be greater than or equal to 4"):
        replaced(demo(), {"native.areas": (2,)})

    message = r"budget.batch_size=16 is not a multiple of 64, .* of native.areas=\[8, 512\] on ranks=2"
    with pytest.raises(UsageError, match=message):
        replaced(demo(), {"native.areas": (8, 512), "ranks": 2})
    assert replaced(demo(), {"native.areas": (8, 512), "ranks": 2, "budget": {"samples": 64, "batch_size": 64}})


def test_a_micro_batch_has_about_as_many_patches_with_every_area():
    assert [micro_batch_at(area, demo(), 4) for area in (8, 16, 32, 64, 128)] == [8, 4, 2, 1, 1]
