"""Times of finished runs, against records with known numbers."""

from dataclasses import replace

import pytest

from aimv2.config.signature import untrained
from aimv2.run.pricing.clock import MachineClock
from aimv2.run.pricing.recorded import remember, run_times


@pytest.fixture
def remembered(record):
    """Record a run, and keep its times."""

    def keep(config, **values):
        remember(config, record(config, **values))

    return keep


def test_times_are_those_of_the_record(tiny, record):
    points = tiny.evaluation.curve_points * tiny.evaluation.curve_pairs
    assert run_times(record(tiny)) == pytest.approx(
        {"images_per_second": 100, "curve_seconds_per_pair": 4 / points, "evaluation_seconds": 11}
    )
    assert run_times(record(untrained(tiny))) == pytest.approx({"evaluation_seconds": 11})


def test_a_clock_takes_the_times_of_the_last_run(tiny, remembered):
    for seed, speed, evaluation in ((0, 100.0, 10.0), (1, 200.0, 20.0)):
        remembered(replace(tiny, seed=seed), speed=speed, evaluation=evaluation)
    here = MachineClock(measure=None)
    double = replace(tiny, budget=replace(tiny.budget, samples=32), seed=9)
    assert here(double) == pytest.approx((32 / 200, 4 + 1 + 20))
    assert here(untrained(double)) == pytest.approx((0, 1 + 20))


@pytest.mark.parametrize(
    "other",
    [
        lambda run: replace(run, model=replace(run.model, patch_px=2)),
        lambda run: replace(run, budget=replace(run.budget, batch_size=4)),
        lambda run: replace(run, threads=2),
        lambda run: replace(run, native=replace(run.native, areas=(8, 16))),
        lambda run: replace(run, precision="bfloat16"),
        lambda run: replace(run, evaluation=replace(run.evaluation, num_pairs=64)),
    ],
)
def test_runs_of_another_shape_do_not_count(tiny, remembered, other):
    remembered(other(tiny))
    assert MachineClock(measure=None)(tiny) is None


def test_causal_runs_take_the_time_of_prefix_runs(tiny, remembered):
    remembered(tiny)
    encoder = replace(tiny.model.encoder, attention="causal")
    causal = replace(tiny, model=replace(tiny.model, encoder=encoder))
    assert MachineClock(measure=None)(causal) == MachineClock(measure=None)(tiny) is not None


def test_a_frozen_encoder_takes_a_time_of_its_own(tiny, remembered):
    frozen = replace(tiny, start=replace(tiny.start, frozen=("encoder",)))
    remembered(frozen)
    assert MachineClock(measure=None)(tiny) is None
    assert MachineClock(measure=None)(frozen) is not None


def test_runs_on_other_hardware_do_not_count(tiny, remembered, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("aimv2.run.pricing.recorded.hardware", lambda device: "another CPU")
        remembered(tiny)
    assert MachineClock(measure=None)(tiny) is None


def test_a_record_without_times_is_skipped(tiny, record):
    run = record(tiny)
    (run / "result.json").write_text("[]")
    remember(tiny, run)
    assert MachineClock(measure=None)(tiny) is None
