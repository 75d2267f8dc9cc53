"""How long runs take: what is counted, and that measurements are kept."""

from dataclasses import replace

import pytest

from aimv2.config.resolve import with_attention
from aimv2.config.scales import demo, vit_3b
from aimv2.config.signature import untrained
from sweeps.pricing import calibrate, timing
from sweeps.pricing.calibrate import images_per_second
from sweeps.pricing.timing import known_run_seconds, run_seconds

EVALUATION = {"seconds": 6.0, "curve_seconds_per_pair": 0.001, "held_out_pairs": 100}


@pytest.fixture(autouse=True)
def _nothing_measured_yet(monkeypatch):
    monkeypatch.setattr(calibrate, "_measured", {})


@pytest.fixture
def base(tmp_path):
    run = with_attention(demo())
    return replace(run, device="cpu", precision="float32", data=replace(run.data, cache_dir=str(tmp_path)))


def another_process(monkeypatch):
    monkeypatch.setattr(calibrate, "_measured", {})
    monkeypatch.setattr(calibrate, "_measured_speed", None)
    monkeypatch.setattr(timing, "_measured_evaluation", None)


def test_a_run_takes_its_training_its_curve_and_its_evaluation(base, monkeypatch):
    monkeypatch.setattr(calibrate, "_measured_speed", lambda run: {"images_per_second": 512.0})
    monkeypatch.setattr(timing, "_measured_evaluation", lambda run: EVALUATION)
    points = base.evaluation.curve_points
    assert run_seconds(base, keep=False) == pytest.approx((20_480 / 512, points * 100 * 0.001 + 6.0))
    few = replace(base, evaluation=replace(base.evaluation, curve_pairs=10))
    assert run_seconds(few, keep=False) == pytest.approx((20_480 / 512, points * 10 * 0.001 + 6.0))
    assert run_seconds(untrained(base), keep=False) == (0.0, 6.0)


def test_what_was_measured_is_measured_once_a_machine_and_shape(tiny, tmp_path, monkeypatch):
    tiny = replace(tiny, data=replace(tiny.data, cache_dir=str(tmp_path)))
    assert known_run_seconds(tiny) is None
    took = run_seconds(tiny, keep=True)
    assert min(took) > 0
    another_process(monkeypatch)
    other_seed = replace(tiny, seed=5)
    assert run_seconds(other_seed, keep=True) == known_run_seconds(other_seed) == took
    assert 0 < run_seconds(untrained(tiny), keep=True).evaluation < took.evaluation, (
        "it shares its trained run's evaluation"
    )


def test_a_dry_run_without_a_cache_keeps_nothing(tiny, tmp_path):
    assert (
        run_seconds(replace(tiny, data=replace(tiny.data, cache_dir=str(tmp_path / "cache"))), keep=False) is not None
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["caption", "image_only", "cappa", "clip"])
def test_every_kind_of_network_can_be_timed(tiny, tmp_path, name):
    run = replace(
        with_attention(replace(tiny, objective=replace(tiny.objective, name=name))),
        data=replace(tiny.data, cache_dir=str(tmp_path)),
    )
    assert min(run_seconds(run, keep=False)) > 0


def test_work_is_counted_as_an_evaluation_does_it(tiny, tmp_path, pairs, monkeypatch):
    """With every unit at a second, the units add up to what there is on this data."""
    train, held_out, _ = pairs
    from aimv2.data.transfer import transfer_sets

    units = dict.fromkeys(["report of a pair", "encoded image", "probe step", "written caption", "curve of a pair"], 1)
    monkeypatch.setattr(timing, "_unit_seconds", lambda run: units)
    images, steps = 0, 0
    for task in transfer_sets(train, held_out):
        images += sum(len(part) for part in (task.train, task.validation, task.test))
        for _ in range(tiny.evaluation.probe.epochs):
            steps += len(range(0, len(task.train), tiny.evaluation.probe.batch_size))
    found = timing._measured_evaluation(tiny)
    assert found["seconds"] == tiny.evaluation.num_pairs + images + steps + tiny.evaluation.num_examples
    assert found["held_out_pairs"] == len(held_out)


def test_a_model_that_does_not_fit_has_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "available_memory", lambda: 10**9)
    run = replace(with_attention(vit_3b()), device="cpu", precision="float32")
    run = replace(run, data=replace(run.data, cache_dir=str(tmp_path)))
    assert images_per_second(run, keep=False) is None
    assert run_seconds(run, keep=False) is None
    assert run_seconds(untrained(run), keep=False) is None
