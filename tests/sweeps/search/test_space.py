"""The space of a search: its points, their runs, and what is refused."""

import math
import re
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import factorial, latin_hypercube, one_factor, setting
from aimv2.ablations.expand import expand
from aimv2.base.errors import UsageError
from aimv2.sweeps.search.space import SearchConfig, described, search_config, search_values
from tests.helpers.trials import BOX, search

NORM = {"rms": setting("RMSNorm", {}), "layer": setting("LayerNorm", {"model.encoder.norm": "layer"})}
FFN = {"swiglu": setting("SwiGLU", {}), "gelu": setting("GELU", {"model.encoder.ffn": "gelu"})}


def test_a_range_is_a_float_of_the_run(tiny):
    one = search(tiny, design=BOX)
    assert one.distributions == {
        "objective.pixel_weight": FloatDistribution(0.0, 1.0),
        "optimizer.peak_lr": FloatDistribution(1e-4, 1e-2, log=True),
    }
    run = one.run({"objective.pixel_weight": 0.25, "optimizer.peak_lr": 2e-3})
    assert (run.objective.pixel_weight, run.optimizer.peak_lr) == (0.25, 2e-3)
    assert (run.seed, run.evaluation.split) == (500, "validation")
    assert (one.points, one.num_points) == (None, math.inf)


def test_the_points_of_a_factorial_are_its_arms(tiny):
    one = search(tiny, sweep="norm_ffn")
    assert one.distributions["norm"] == CategoricalDistribution(["rms", "layer"])
    on_validation = replace(tiny, evaluation=replace(tiny.evaluation, split="validation"))
    cells = expand(STUDIES["norm_ffn"], on_validation, seeds=[500])
    arms = {cell.name for cell in cells if cell.arm in STUDIES["norm_ffn"].arms}
    assert set(one.points) == arms


def test_combinations_that_a_design_excludes_are_no_points(tiny):
    design = factorial(NORM, FFN, names=("norm", "ffn"), exclude=lambda norm, ffn: (norm, ffn) == ("layer", "gelu"))
    assert [tuple(point.values()) for point in search(tiny, design=design).points.values()] == [
        ("rms", "swiglu"),
        ("rms", "gelu"),
        ("layer", "swiglu"),
    ]


def test_combinations_that_no_run_can_have_are_no_points(tiny):
    odd = {"even": setting("even", {}), "odd": setting("odd", {"model.encoder.num_heads": 3})}  # the width is 32
    assert search(tiny, design=factorial(odd, FFN)).num_points == 2
    with pytest.raises(UsageError, match="no point of the space of sweep=loss_weight is a possible run"):
        search(tiny, design=factorial({"odd": odd["odd"]}, FFN)).check()


@pytest.mark.parametrize(("sweep", "point"), [("loss_weight", {"objective.pixel_weight": 0.4}), ("norm_ffn", None)])
def test_the_baseline_has_a_point(tiny, sweep, point):
    one = search(tiny, sweep=sweep)
    assert point is None or one.baseline == point
    baseline = one.study.arms[one.study.baseline].change(tiny)
    expected = replace(baseline, seed=500, evaluation=replace(tiny.evaluation, split="validation"))
    assert one.run(one.baseline).name == expected.name


def test_a_baseline_outside_the_ranges_has_no_point(tiny):
    outside = replace(tiny, optimizer=replace(tiny.optimizer, peak_lr=0.5))
    assert search(outside, design=BOX).baseline is None
    assert search(tiny, design=BOX).baseline is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metric": "recall"}, "unknown search.metric 'recall'. Allowed: caption_bits, "),
        ({"metric": "probe_digits"}, "unknown search.metric 'probe_digits'."),  # its images are for the test alone
        ({"metric": "train_flops"}, "unknown search.metric 'train_flops'."),
        ({"seed": 1}, "search.seed=1 is among sweep.seeds, which confirm the winner"),
    ],
)
def test_what_is_impossible_is_refused_in_one_sentence(tiny, values, message):
    with pytest.raises(UsageError) as caught:
        search(tiny, **values).check()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (one_factor(only=setting("only", {})), "search=optuna has nothing to vary"),
        (replace(BOX, space={}), "search=optuna has nothing to vary"),
        (
            latin_hypercube(BOX.arms, linear={"optimizer.peak_lr": (-1.0, 1.0)}, log={}, num_points=1),
            "the point optimizer.peak_lr=-1 cannot exist: optimizer.peak_lr",
        ),
        (
            latin_hypercube(BOX.arms, linear={"optimizer.lr": (0.0, 1.0)}, log={}, num_points=1),
            "the point optimizer.lr=0 cannot exist: unknown key 'optimizer.lr'",
        ),
    ],
)
def test_a_space_that_no_run_can_have_is_refused(tiny, design, message):
    with pytest.raises(UsageError) as caught:
        search(tiny, design=design).check()
    assert str(caught.value).startswith(message)


def test_another_space_is_another_search(tiny):
    one = search(tiny).definition()
    assert one == search(tiny, trials=99).definition(), "more trials continue a search"
    for other in (search(replace(tiny, seed=7)), search(tiny, seeds=(0, 1, 2))):
        assert other.definition() == one
    for other in (search(tiny, design=BOX), search(tiny, sampler="random"), search(tiny, metric="caption_loss")):
        assert other.definition() != one


def test_points_are_described():
    assert described({"objective.pixel_weight": 0.123456, "norm": "rms"}) == "objective.pixel_weight=0.1235 norm=rms"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "search.sampler: Input should be 'tpe', 'gp', "),
        ({"pruner": "asha"}, "pruner"),
        ({"trials": 0}, "search.trials: Input should be greater than 0"),
        ({"trails": 3}, "trails"),
    ],
)
def test_values_that_are_not_allowed_are_refused_in_one_sentence(values, message):
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        search_config(search_values()["optuna"] | values)
    assert "\n" not in str(refused.value)


def test_the_choice_on_the_command_line_has_the_defaults():
    assert search_config(search_values()["optuna"]) == SearchConfig()
    assert search_values()["none"] == {}
