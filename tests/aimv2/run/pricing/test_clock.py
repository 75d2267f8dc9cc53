"""The clock: its sources, what it stores, and calibration runs, done for real."""

from dataclasses import replace

import pytest

from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import demo, vit_3b
from aimv2.request.resolve import with_attention
from aimv2.run.pricing.clock import MachineClock, calibrate
from aimv2.run.pricing.effort import CURVE_SHARE, training_effort
from aimv2.run.pricing.price import price
from aimv2.run.pricing.recorded import recorded, remember
from tests.helpers.marks import exhaustive
from tests.helpers.native import at_native


@pytest.fixture
def clock(record):
    """Make a clock, as a new process does. Gives it and the runs it measures, each short as a calibration's."""

    def make(**times):
        measured = []

        def measure(config):
            measured.append(config)
            return remember(config, record(config, **times), is_short=True) if times else []

        return MachineClock(measure=measure), measured

    return make


def test_time_is_steps_and_curve_and_evaluation(tiny, clock):
    here, _ = clock(speed=512.0, evaluation=6.0)
    pairs = tiny.evaluation.curve_points * tiny.evaluation.curve_pairs
    a_sample, evaluation = 0.5 / 512, (1 + 4 + 6) / 2  # CPU seconds of a short run
    assert here(tiny)[:2] == pytest.approx((16 * a_sample, CURVE_SHARE * pairs * a_sample + evaluation))
    assert here(tiny.untrained())[:2] == (0.0, evaluation)
    double = replaced(tiny, {"budget.samples": 32})
    assert here(double).training == 2 * here(tiny).training


def test_all_runs_of_a_plan_follow_from_one_measurement(tiny, clock):
    here, measured = clock(speed=512.0)
    wider = replaced(tiny, {"model.decoder.depth": 3})
    short = frozenset(["a short run"])
    assert here(tiny).estimated_from == here(tiny.untrained()).estimated_from == frozenset(), "it is of their shape"
    assert here(wider).estimated_from == short
    assert here(wider).training == pytest.approx(here(tiny).training * training_effort(wider) / training_effort(tiny))
    assert price([tiny, wider], here).basis == ", estimated from a short run"
    assert measured == [tiny]
    later, measured_later = clock(speed=1.0)
    assert later(wider) == here(wider)
    assert measured_later == []


def test_an_estimate_names_the_runs_that_it_follows_from(tiny, record):
    remember(tiny, record(tiny))
    wider = replaced(tiny, {"model.decoder.depth": 3})
    here = MachineClock(measure=None)
    assert price([tiny], here).basis == ""
    assert price([wider], here).basis == f", estimated from run {tiny.name}"
    remember(wider.untrained(), record(wider.untrained()))
    assert price([wider], MachineClock(measure=None)).basis == f", estimated from run {tiny.name}"
    far = replaced(tiny, {"model.decoder.depth": 60})
    remember(far, record(far))
    both = price([replaced(far, {"model.decoder.depth": 50}), wider], MachineClock(measure=None)).basis
    assert both in [f", estimated from run {one} and 1 more" for one in (run.name for run in (tiny, far))]


def test_what_is_far_from_all_that_was_measured_is_measured_too(tiny, clock):
    here, measured = clock(speed=512.0)
    far = replaced(tiny, {"model.encoder.depth": 64})
    assert None not in (here(tiny), here(far))
    assert measured == [tiny, far]


def test_an_unknown_time_is_none_and_is_not_measured_twice(tiny, clock):
    here, measured = clock()
    assert (here(tiny), here(tiny.untrained()), here(replace(tiny, seed=1))) == (None,) * 3
    assert len(measured) == 1


def test_a_clock_without_measure_knows_recorded_numbers_only(tiny, record):
    assert MachineClock(measure=None)(tiny) is None
    remember(tiny, record(tiny))
    assert MachineClock(measure=None)(tiny) is not None


@pytest.mark.parametrize("name", ["aimv2", exhaustive("clip")])
def test_a_calibration_run_measures_every_time(tiny, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = with_attention(
        replaced(tiny, {"objective.name": name, "model.encoder.attention": "auto", "optimizer.peak_lr": 1e30})
    )
    found = calibrate(run)
    assert {one.part: one.run for one in found} == {"training": "", "evaluation": ""}
    assert min(one.seconds for one in found) > 0
    assert recorded(tmp_path / "cache") == sorted(found, key=lambda one: one.shape)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.exhaustive
def test_a_plan_that_may_write_nothing_is_measured(tiny):
    assert len(calibrate(replaced(tiny, {"data.cache_dir": "/dev/null/cache"}))) == 2


@pytest.mark.exhaustive
def test_a_native_run_is_measured_in_whole_images_of_each_area(tiny):
    run = at_native(tiny, budget={"samples": 160, "batch_size": 16}, ranks=2)
    assert {one.part for one in calibrate(run)} == {"training", "evaluation"}


@pytest.mark.exhaustive
def test_an_untrained_run_is_evaluated_only(tiny):
    assert [one.part for one in calibrate(tiny.untrained())] == ["evaluation"]


def test_a_run_that_fails_has_no_times_and_says_why(tiny, capsys):
    overflows = replaced(tiny, {"objective.pixel_weight": 1e39})
    assert calibrate(overflows) == []
    assert "the speed of this model could not be measured: gradient_norm is" in capsys.readouterr().err


def test_a_model_that_is_too_large_is_not_measured():
    large = replace(with_attention(vit_3b()), device="cpu", precision="float32")
    assert calibrate(large) == []
    small = replace(with_attention(demo()), device="cpu", precision="float32")
    assert calibrate(small, memory=lambda: 1e8) == []
