"""The clock: its sources, what it stores, and calibration runs, done for real."""

from dataclasses import replace

import pytest

from aimv2.config.recipes.scales import demo, vit_3b
from aimv2.config.signature import untrained
from aimv2.request.resolve import with_attention
from aimv2.run.pricing.clock import MachineClock, calibrate
from tests.helpers.marks import exhaustive
from tests.helpers.native import at_native

TIMES = {"images_per_second": 512.0, "curve_seconds_per_pair": 0.001, "evaluation_seconds": 6.0}


@pytest.fixture
def base(tmp_path):
    run = with_attention(demo())
    return replace(run, device="cpu", precision="float32", data=replace(run.data, cache_dir=str(tmp_path / "cache")))


@pytest.fixture
def clock(tmp_path):
    """Make a clock, as a new process does. Gives it and the runs it measures."""

    def make(times=TIMES, *, keep=True):
        measured = []

        def measure(config, cache_dir):
            measured.append(config)
            return times

        return MachineClock(keep=keep, measure=measure), measured

    return make


def test_time_is_steps_and_curve_and_evaluation(base, clock):
    here, _ = clock()
    points = base.evaluation.curve_points
    assert here(base) == pytest.approx((base.budget.samples / 512, points * 256 * 0.001 + 6.0))
    few = replace(base, evaluation=replace(base.evaluation, curve_pairs=10))
    assert here(few) == pytest.approx((base.budget.samples / 512, points * 10 * 0.001 + 6.0))
    assert here(untrained(base)) == (0.0, 6.0)


def test_training_time_scales_with_samples(base, clock):
    here, measured = clock()
    double = replace(base, budget=replace(base.budget, samples=2 * base.budget.samples))
    assert here(double).training == 2 * here(base).training
    assert len(measured) == 1


def test_a_shape_is_measured_once_per_machine(base, clock):
    here, measured = clock()
    time = here(base)
    assert (here(replace(base, seed=5)), here(untrained(base)).evaluation) == (time, 6.0)
    assert measured == [base], "the untrained encoder shares the measurement"
    later, measured_later = clock({"images_per_second": 1.0, "evaluation_seconds": 1.0})
    assert later(base) == time
    assert measured_later == []
    wider = replace(base, model=replace(base.model, decoder=replace(base.model.decoder, depth=3)))
    later(wider)
    assert measured_later == [wider]


def test_a_broken_measurement_is_made_again(base, clock, tmp_path):
    clock()[0](base)
    for path in (tmp_path / "cache" / "speed").iterdir():
        path.write_text("{")
    here, measured = clock()
    assert here(base) is not None
    assert len(measured) == 1


def test_nothing_is_stored_without_keep(base, clock, tmp_path):
    here, measured = clock(keep=False)
    assert here(base) == here(base)
    assert len(measured) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_time_is_none_and_is_not_measured_twice(base, clock):
    here, measured = clock(None)
    assert (here(base), here(untrained(base))) == (None, None)
    assert len(measured) == 1


def test_a_clock_without_measure_knows_recorded_numbers_only(base, clock, tmp_path):
    assert MachineClock(measure=None)(base) is None
    time = clock()[0](base)
    assert MachineClock(measure=None)(base) == time


@pytest.mark.parametrize("name", ["aimv2", exhaustive("clip")])
def test_a_calibration_run_measures_every_time(tiny, cache_dir, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = with_attention(
        replace(
            tiny,
            objective=replace(tiny.objective, name=name),
            model=replace(tiny.model, encoder=replace(tiny.model.encoder, attention="auto")),
            optimizer=replace(tiny.optimizer, peak_lr=1e30),
        )
    )
    times = calibrate(run, cache_dir)
    assert set(times) == {"images_per_second", "curve_seconds_per_pair", "evaluation_seconds"}
    assert min(times["images_per_second"], times["evaluation_seconds"]) > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
def test_a_native_run_is_measured_in_whole_images_of_each_area(tiny, cache_dir):
    run = at_native(tiny, budget={"samples": 160, "batch_size": 16}, ranks=2)
    assert calibrate(run, cache_dir)["images_per_second"] > 0


@pytest.mark.exhaustive
def test_an_untrained_run_is_evaluated_only(tiny, cache_dir):
    assert set(calibrate(untrained(tiny), cache_dir)) == {"evaluation_seconds"}


def test_a_run_that_fails_has_no_times_and_says_why(tiny, cache_dir, capsys):
    overflows = replace(tiny, objective=replace(tiny.objective, pixel_weight=1e39))
    assert calibrate(overflows, cache_dir) is None
    assert "the speed of this model could not be measured: gradient_norm is" in capsys.readouterr().err


def test_a_model_that_is_too_large_is_not_measured(cache_dir):
    large = replace(with_attention(vit_3b()), device="cpu", precision="float32")
    assert calibrate(large, cache_dir) is None
    small = replace(with_attention(demo()), device="cpu", precision="float32")
    assert calibrate(small, cache_dir, memory=lambda: 1e8) is None
