"""Calibration runs, done for real."""

from dataclasses import replace

import pytest

from aimv2.config.resolve import with_attention
from aimv2.config.scales import demo, vit_3b
from aimv2.config.signature import untrained
from sweeps.pricing.calibrate import calibrate


@pytest.mark.parametrize("name", ["aimv2", "clip"])
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


def test_an_untrained_run_is_evaluated_only(tiny, cache_dir):
    assert set(calibrate(untrained(tiny), cache_dir)) == {"evaluation_seconds"}


def test_a_run_that_fails_has_no_times(tiny, cache_dir):
    overflows = replace(tiny, objective=replace(tiny.objective, pixel_weight=1e39))
    assert calibrate(overflows, cache_dir) is None


def test_a_model_that_is_too_large_is_not_measured(tiny, cache_dir):
    large = replace(with_attention(vit_3b()), device="cpu", precision="float32")
    assert calibrate(large, cache_dir) is None
    small = replace(with_attention(demo()), device="cpu", precision="float32")
    assert calibrate(small, cache_dir, memory=lambda: 1e8) is None
