"""Time that is left of a run, from records with known times."""

from dataclasses import replace

import pytest

from aimv2.config.run_config import BudgetConfig
from aimv2.run.pricing.left import ArmTimes, training_left
from aimv2.run.pricing.recorded import remember


def test_times_of_an_arm_are_those_of_its_own_run_then_of_its_shape_then_of_another_arm(tiny, record):
    other = replace(tiny, budget=BudgetConfig(samples=64, batch_size=16))  # another shape of training
    times = ArmTimes()
    assert times.of("a", tiny) == {}
    times.learn("b", record(other, evaluation=30.0))
    assert times.of("a", tiny) == {"evaluation_seconds": pytest.approx(31)}

    remember(tiny, record(tiny, evaluation=20.0))
    times = ArmTimes()
    times.learn("b", record(replace(other, seed=2), evaluation=30.0))
    assert times.of("a", tiny)["evaluation_seconds"] == pytest.approx(21)
    times.learn("a", record(replace(tiny, seed=1), evaluation=10.0))
    assert times.of("a", tiny)["evaluation_seconds"] == pytest.approx(11)


def test_another_evaluation_on_this_machine_tells_no_time(tiny, record):
    """Its training has the same shape."""
    remember(tiny, record(tiny, evaluation=20.0))
    other = replace(tiny, evaluation=replace(tiny.evaluation, num_items=24))
    assert ArmTimes().of("a", other).keys() == {"curve_seconds_per_pair"}


def test_a_finished_run_whose_record_is_broken_tells_no_time(tiny, record):
    run, times = record(tiny), ArmTimes()
    (run / "result.json").write_text("{")
    times.learn("a", run)
    assert times.of("a", tiny) == {}


def test_training_left_has_the_rest_of_the_curve(tiny):
    config = replace(tiny, budget=BudgetConfig(samples=80, batch_size=8))
    pairs = config.evaluation.curve_points * config.evaluation.curve_pairs
    assert training_left(config, 60, 10.0, {}) == pytest.approx(2.0)
    assert training_left(config, 60, 10.0, {"curve_seconds_per_pair": 4.0 / pairs}) == pytest.approx(2.0 + 1.0)
