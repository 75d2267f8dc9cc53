"""What the cost study measures, with shallow encoders on a clock that advances by a second at every reading."""

from itertools import count

import pytest

from aimv2.analysis.costs.measurements import ARCHITECTURES
from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from benchmarks.cost_training import Scale
from benchmarks.costs import CostOptions, measure_encoders, measured

pytestmark = pytest.mark.exhaustive

SMALL = {"depth": 1, "patches": (16,), "batch": 2, "repeats": 3, "batch_repeats": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def settings():
    ticks = count()
    return list(measure_encoders(CostOptions(**SMALL), "cpu", lambda: float(next(ticks))))


def test_study_has_a_setting_for_each_precision_and_batch(settings):
    assert [(one.precision, one.batch_size) for one in settings] == [
        ("float32", 1),
        ("float32", 2),
        ("bfloat16", 1),
        ("bfloat16", 2),
    ]
    for setting in settings:
        assert [one.encoder for one in setting.encoders] == list(ARCHITECTURES)
        assert [one.image_px for one in setting.encoders] == [56, 56, 64, 56]
        assert [one.num_tokens for one in setting.encoders] == [16, 17, 16, 17]
        size = {"float32": 4, "bfloat16": 2}[setting.precision]
        assert all(one.parameter_bytes == size * one.parameters for one in setting.encoders)


def test_every_round_times_every_call_once(settings):
    for setting in settings:
        num_rounds = {1: 3, 2: 2}[setting.batch_size]
        assert [one.seconds for one in setting.encoders] == [[1.0] * num_rounds] * 4, "a tick of the clock per call"
        assert setting.product_seconds == [1.0] * num_rounds


def test_ours_has_the_flops_of_its_closed_form(settings):
    for setting in settings:
        ours, *others = setting.encoders
        assert ours.flops == ours.closed_form
        assert {one.closed_form for one in others} == {None}
        assert setting.product_flops == 2 * setting.batch_size * 16 * 1024 * 2 * 2816


def test_memory_is_at_least_that_of_the_ffn_and_grows_with_the_batch(settings):
    """The hidden activations of an FFN, of which ours has the narrowest, beside its input."""
    for setting in settings:
        size = {"float32": 4, "bfloat16": 2}[setting.precision] * setting.batch_size
        assert all(one.peak_bytes >= size * one.num_tokens * (2816 + 1024) for one in setting.encoders)
    single, double = (setting.encoders[0] for setting in settings[:2])
    assert double.peak_bytes == pytest.approx(2 * single.peak_bytes, rel=0.1), "ours has no scratch memory"


def test_measurements_say_what_was_measured_where():
    values = SMALL | {"repeats": 2, "models": ("aimv2", "clip"), "precisions": ("bfloat16",), "clock": "cpu"}
    found = measured(CostOptions(**values), [Scale("demo", "small", demo(), 2)])
    assert "repeats=2 clock=cpu device=cpu 'models=[aimv2,clip]'" in found.command
    assert (found.clock, found.depth, set(found.machine.packages)) == ("cpu", 1, {"torch", "open_clip_torch"})
    assert [(one.precision, one.batch_size) for one in found.encoders] == [("bfloat16", 1), ("bfloat16", 2)]
    assert [one.scale for one in found.training] == ["demo"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"models": ("clip",)}, r"models=\[clip\] has no aimv2"),
        ({"patches": (200,)}, "patches=200 is not the square"),
    ],
)
def test_models_without_ours_and_patches_that_are_no_square_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        measured(CostOptions(**values), [])
