"""Time that is left of a run, from records with known times."""

from dataclasses import replace

import pytest

from aimv2.config.training_config import BudgetConfig
from aimv2.run.pricing.left import EvaluationTimes, training_left
from aimv2.run.pricing.recorded import remember


def test_the_time_of_an_arm_is_that_of_its_own_run_then_a_recorded_one_then_that_of_another_arm(tiny, record):
    times = EvaluationTimes()
    assert times.of("a", tiny) is None
    times.learn("b", record(tiny, evaluation=30.0))
    assert times.of("a", tiny) == pytest.approx(31)

    remember(tiny, record(tiny, evaluation=20.0))
    times = EvaluationTimes()
    times.learn("b", record(replace(tiny, seed=2), evaluation=30.0))
    assert times.of("a", tiny) == pytest.approx(21)
    times.learn("a", record(replace(tiny, seed=1), evaluation=10.0))
    assert times.of("a", tiny) == pytest.approx(11)


def test_a_finished_run_whose_record_is_broken_tells_no_time(tiny, record):
    run, times = record(tiny), EvaluationTimes()
    (run / "result.json").write_text("{")
    times.learn("a", run)
    assert times.of("a", tiny) is None


def test_training_left_has_the_rest_of_the_curve(tiny):
    """A pair of the curve takes half as long as a sample."""
    config = replace(tiny, budget=BudgetConfig(samples=80, batch_size=8))
    pairs = config.evaluation.curve_points * config.evaluation.curve_pairs
    assert training_left(config, 80, 10.0) == 0
    assert training_left(config, 60, 10.0) == pytest.approx(2.0 + pairs / 4 / 2 / 10)
