"""Designs and arms."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.design import (
    LEVEL,
    RATES,
    Arm,
    Range,
    factorial,
    ladder,
    latin_hypercube,
    level,
    one_factor,
    scaled,
    setting,
    wide,
    widened,
)
from aimv2.config.program import differences, replaced
from aimv2.config.recipes.scales import SCALES, demo


def factor(path, *values):
    """Levels named by the path's last letter and their number."""
    letter = path[-1]
    return {f"{letter}{n}": setting(f"{path} {v}", {path: v}) for n, v in enumerate(values)}


WIDTH = factor("model.decoder.depth", 1, 2, 3)
ALPHA = factor("objective.pixel_weight", 0.4, 0.8)
SEED = factor("seed", 0, 1)


def values(design):
    return {name: differences(arm.change(demo()), demo()) for name, arm in design.arms.items()}


def test_one_factor_changes_one_value_per_arm():
    assert values(one_factor(**WIDTH, **ALPHA)) == {
        "h0": {"model.decoder.depth": 1},
        "h1": {},
        "h2": {"model.decoder.depth": 3},
        "t0": {},
        "t1": {"objective.pixel_weight": 0.8},
    }


def test_factorial_has_every_combination_but_the_excluded():
    design = factorial(WIDTH, ALPHA, exclude=lambda depth, alpha: depth == "h2" and alpha == "t1")
    assert list(design.arms) == ["h0_t0", "h0_t1", "h1_t0", "h1_t1", "h2_t0"]
    assert values(design)["h0_t1"] == {"model.decoder.depth": 1, "objective.pixel_weight": 0.8}
    assert design.arms["h0_t1"].label == "model.decoder.depth 1, objective.pixel_weight 0.8"


def test_arms_of_a_factorial_have_the_levels_of_their_factors_and_are_the_points_of_its_space():
    design = factorial(WIDTH, ALPHA, names=("depth", "weight"))
    assert list(design.levels) == list(design.arms)
    assert design.levels["h2_t0"] == {"depth": "model.decoder.depth 3", "weight": "objective.pixel_weight 0.4"}
    assert list(factorial(WIDTH, ALPHA).levels["h0_t0"]) == ["factor 1", "factor 2"]
    assert one_factor(**WIDTH).levels == {}
    assert design.space == {"depth": WIDTH, "weight": ALPHA}
    for depth, weight in product(WIDTH, ALPHA):
        point, arm = design.point({"depth": depth, "weight": weight}), design.arms[f"{depth}_{weight}"]
        assert (point.change(demo()), point.label) == (arm.change(demo()), arm.label)


@given(num_points=st.integers(2, 12), seed=st.integers(0, 5))
def test_latin_hypercube_has_a_point_in_every_stratum(num_points, seed):
    design = latin_hypercube(
        {"base": Arm(label="base")},
        linear={"optimizer.weight_decay": (0, 1)},
        log={"optimizer.peak_lr": (1e-4, 1e-2)},
        num_points=num_points,
        seed=seed,
    )
    runs = [arm.change(demo()) for name, arm in design.arms.items() if name != "base"]
    strata = sorted(int(run.optimizer.weight_decay * num_points) for run in runs)
    assert strata == list(range(num_points))
    assert all(1e-4 <= run.optimizer.peak_lr <= 1e-2 for run in runs)
    bounds = [1e-4 * 100 ** (i / num_points) for i in range(num_points + 1)]
    for low, high in pairwise(bounds):
        assert sum(low <= run.optimizer.peak_lr < high for run in runs) == 1


@given(
    ratio=st.sampled_from([0.25, 1 / 3, 0.5, 2 / 3, 1, 1.5, 2, 3]),
    head_dim=st.integers(1, 64),
    num_heads=st.integers(1, 12),
)
def test_widened_blocks_have_the_nearest_whole_heads(ratio, head_dim, num_heads):
    run = replaced(demo(), {"model.decoder.width": head_dim * num_heads, "model.decoder.num_heads": num_heads})
    arm = widened(ratio, "model.decoder")
    decoder = arm.change(run).model.decoder
    assert decoder.width == max(round(head_dim * num_heads * ratio), 1)
    assert decoder.width % decoder.num_heads == 0
    if float(num_heads * ratio).is_integer() and decoder.width == head_dim * num_heads * ratio:
        assert decoder.num_heads == num_heads * ratio, "whole heads stay as wide as they were"
    possible = [heads for heads in range(1, decoder.width + 1) if decoder.width % heads == 0]
    assert not any(abs(heads - num_heads * ratio) < abs(decoder.num_heads - num_heads * ratio) for heads in possible)
    assert differences(arm.change(run), run).keys() <= {"model.decoder.width", "model.decoder.num_heads"}


@given(ratio=st.floats(0.01, 4), multiple=st.integers(1, 7))
def test_scaled_values_are_the_nearest_positive_multiple(ratio, multiple):
    depth = scaled(ratio, "model.encoder.depth", multiple=multiple)(demo()).model.encoder.depth
    assert depth % multiple == 0
    assert depth >= multiple
    assert depth == multiple or abs(depth - 4 * ratio) <= multiple / 2 + 1e-9


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [
        (ALPHA, {"objective.pixel_weight": Range(low=0.4, high=0.8)}),
        (SEED, {LEVEL: SEED}),  # integers have nothing between them
        (WIDTH | ALPHA, {LEVEL: WIDTH | ALPHA}),
        ({"own": Arm(label="own"), **ALPHA}, {LEVEL: {"own": Arm(label="own"), **ALPHA}}),
        ({"half": level("half", 0.5, "model.decoder.depth")}, None),
    ],
)
def test_the_space_of_a_ladder_is_a_range_if_its_rungs_are_numbers_of_one_value(rungs, expected):
    space = ladder(**rungs).space
    assert list(space) == list(expected or {LEVEL: None})
    for name, factor in (expected or {}).items():
        assert space[name] == factor if isinstance(factor, Range) else list(space[name]) == list(factor)


def test_a_point_of_a_box_has_its_numbers():
    box = latin_hypercube(
        {"base": Arm(label="base")},
        linear={"augment.min_scale": (0.1, 0.9)},
        log={"optimizer.eps": (1e-9, 1e-5)},
        num_points=2,
    )
    assert box.space == {
        "augment.min_scale": Range(low=0.1, high=0.9),
        "optimizer.eps": Range(low=1e-9, high=1e-5, log=True),
    }
    point = box.point({"augment.min_scale": 0.25, "optimizer.eps": 3e-7})
    assert differences(point.change(demo()), demo()) == {"augment.min_scale": 0.25, "optimizer.eps": 3e-7}
    assert point.label == "augment.min_scale = 0.25, optimizer.eps = 3e-07"


@pytest.mark.parametrize("scale", ["laptop", "vit_l_2b"])
@pytest.mark.parametrize("ratio", RATES)
def test_heads_keep_their_width_and_the_rate_is_that_of_the_ratio(scale, ratio):
    base = SCALES[scale]()
    run = wide(ratio).change(base)
    before, after = base.model.encoder, run.model.encoder
    assert after.width == ratio * before.width
    assert after.width / after.num_heads == before.width / before.num_heads
    assert after.depth == before.depth
    assert run.optimizer.peak_lr == pytest.approx(RATES[ratio] * base.optimizer.peak_lr)
    assert after.width % base.evaluation.probe.head_dim == 0, "the probe splits features into heads"
