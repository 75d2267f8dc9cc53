"""Prices against the closed forms they are made of, and limits on them."""

from dataclasses import replace

import pytest

from ablations.budget import max_train_flops
from aimv2.errors import UsageError
from aimv2.model.network import num_parameters
from aimv2.resolve import with_attention
from aimv2.scales import demo, vit_3b
from aimv2.signature import untrained
from sweeps import calibrate
from sweeps.calibrate import images_per_second, known_images_per_second
from sweeps.price import Price, check_limits, price, read_limits


@pytest.fixture
def base():
    return with_attention(demo())


def test_runs_cost_what_their_parts_cost_together(base):
    runs = [base, replace(base, seed=1), untrained(base)]
    cost = price(runs, lambda run: 100.0)
    assert cost.flops == 2 * max_train_flops(base, base.budget.samples)
    assert cost.seconds == pytest.approx(2 * base.budget.samples / 100)
    assert cost.disk_bytes == 3 * 4 * sum(num_parameters(base).values())


def test_a_time_that_is_not_known_is_none_and_an_untrained_run_takes_none(base):
    assert price([base], lambda run: None).seconds is None
    assert price([untrained(base)], lambda run: None).seconds == 0


@pytest.mark.parametrize(
    ("text", "what", "amount"),
    [
        ("90s", "seconds", 90),
        ("20min", "seconds", 1200),
        ("2h", "seconds", 7200),
        ("1.5d", "seconds", 129_600),
        ("5GB", "disk_bytes", 5e9),
        ("3e14FLOPs", "flops", 3e14),
        ("2 EFLOPs", "flops", 2e18),
    ],
)
def test_a_limit_is_a_number_and_a_unit(text, what, amount):
    (limit,) = read_limits(text)
    assert (limit.what, limit.amount) == (what, pytest.approx(amount))


@pytest.mark.parametrize("text", ["", "2", "h", "2weeks", "2h,", "-1h", "1.2.3h", "2h 3"])
def test_what_is_no_limit_is_named(text):
    with pytest.raises(UsageError, match=r"budget=.*: cannot read .*; a number and one of s, min, h, d"):
        read_limits(text)


def test_a_plan_above_a_limit_is_refused_and_one_below_is_not():
    cost = Price(flops=10**15, seconds=7200, disk_bytes=10**9)
    check_limits(read_limits("1h,1GB,1PFLOPs"), cost, num_workers=2)
    for limit, times in (("30min", "2"), ("500MB", "2"), ("1e14FLOPs", "10")):
        with pytest.raises(UsageError, match=f"costs {times} times budget={limit}; nothing was started"):
            check_limits(read_limits(limit), cost, num_workers=2)
    with pytest.raises(UsageError, match="cannot be held"):
        check_limits(read_limits("1h"), replace(cost, seconds=None), num_workers=2)


def test_a_speed_is_measured_once_a_machine_and_shape(base, tmp_path, monkeypatch):
    base = replace(base, device="cpu", precision="float32", data=replace(base.data, cache_dir=str(tmp_path)))
    monkeypatch.setattr(calibrate, "_measured", {})
    assert known_images_per_second(base) is None
    speed = images_per_second(base, keep=True)
    assert speed > 0
    monkeypatch.setattr(calibrate, "_measured", {})  # as in another process
    monkeypatch.setattr(calibrate, "_measure", None)
    assert images_per_second(replace(base, seed=5), keep=True) == known_images_per_second(base) == speed


def test_a_model_that_does_not_fit_has_no_speed(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "_measured", {})
    monkeypatch.setattr(calibrate, "available_memory", lambda: 10**9)
    run = replace(with_attention(vit_3b()), device="cpu", precision="float32")
    assert images_per_second(replace(run, data=replace(run.data, cache_dir=str(tmp_path))), keep=False) is None
