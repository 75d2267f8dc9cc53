"""Prices against the closed forms that they consist of, and limits on them."""

from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from aimv2.definitions.programs import max_train_flops
from aimv2.objectives.build import build, parameters_by_part
from aimv2.request.resolve import with_attention
from aimv2.run.price import MAX_CPU_FLOPS, Price, RunSeconds, check_cpu, check_limits, duration, price, read_limits
from aimv2.runs.attempt import CHECKPOINT
from aimv2.training import checkpoint
from aimv2.training.optimizer import build_optimizer


@pytest.fixture
def base():
    return with_attention(demo())


def clock(run):
    return RunSeconds(90.0, 10.0) if run.budget.samples else RunSeconds(0.0, 10.0)


def test_price_adds_up_the_runs(base):
    runs = [base, replace(base, seed=1), base.untrained()]
    cost = price(runs, clock)
    weights = 4 * sum(parameters_by_part(base).values())
    assert cost.flops == 2 * max_train_flops(base, base.budget.samples)
    assert (cost.seconds, cost.longest_seconds) == (210.0, 100.0)
    wall_seconds = [cost.wall_seconds(num_workers) for num_workers in (1, 2, 3, 100)]
    assert wall_seconds == [210.0, 105.0, 100.0, 100.0], "at least the longest run"
    assert cost.weights_bytes == 3 * weights
    assert cost.disk_bytes(num_workers=2) == 3 * weights + 2 * 6 * weights
    assert price([base.untrained()], clock).disk_bytes(num_workers=1) == weights, "it saves no checkpoint"


def test_price_of_a_checkpoint_is_its_size(tiny, tmp_path):
    model = build(tiny)
    optimizer = build_optimizer(model, tiny.optimizer)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    folder = tmp_path / "v2-x" / "attempts" / "0001"
    folder.mkdir(parents=True)
    checkpoint.save(folder, model, optimizer, checkpoint.Progress()).result()
    priced = price([tiny], clock).checkpoint_bytes / 2  # of the two that there are for a moment
    size = sum(path.stat().st_size for path in (folder / CHECKPOINT).rglob("*.*"))
    assert priced < size < 1.1 * priced


def test_price_has_no_time_if_one_run_has_none(base):
    cost = price([base.untrained(), base], lambda run: None if run.budget.samples else RunSeconds(0.0, 1.0))
    assert (cost.seconds, cost.longest_seconds, cost.wall_seconds(1)) == (None,) * 3


@pytest.mark.parametrize(
    ("text", "quantity", "amount"),
    [
        ("20min", "seconds", 1200),
        ("2h", "seconds", 7200),
        ("1.5d", "seconds", 129_600),
        ("5GB", "disk_bytes", 5e9),
        ("3e14FLOPs", "flops", 3e14),
        ("2 EFLOPs", "flops", 2e18),
    ],
)
def test_limit_is_a_number_and_a_unit(text, quantity, amount):
    (limit,) = read_limits(text)
    assert (limit.quantity, limit.amount) == (quantity, pytest.approx(amount))


UNREADABLE = "limit=.*: cannot read .*; a number and one of s, min, h, d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, UNREADABLE) for text in ("", "2", "h", "2weeks", "2h,", "-1h", "1.2.3h", "2h 3")),
        *((text, f"^limit={text}: '{text}' must be above 0 and finite$") for text in ("0s", "1e999h")),
        ("2h,0.0GB", "^limit=2h,0.0GB: '0.0GB' must be above 0 and finite$"),
    ],
)
def test_limit_that_is_unreadable_or_zero_or_infinite_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_limits(text)


def test_plan_above_a_limit_is_refused():
    cost = Price(flops=10**15, seconds=7200, longest_seconds=3000, weights_bytes=8 * 10**8, checkpoint_bytes=10**8)
    check_limits(read_limits("1h,1GB,1PFLOPs"), cost, num_workers=2)
    for limit, num_workers, what in (
        ("30min", 2, "60 min with 2 workers, 2 times limit=30min"),
        ("0.5GB", 2, "1 GB of disk space, 2 times limit=0.5GB"),
        ("100TFLOPs", 2, "1e[+]03 TFLOPs of training, 10 times limit=100TFLOPs"),
        ("25min", 100, "50 min with 100 workers, 2 times limit=25min"),
        ("1h", 1, "2 h of training and evaluation, 2 times limit=1h"),
    ):
        with pytest.raises(UsageError, match=f"^this takes {what}; nothing was started. Raise that limit, or"):
            check_limits(read_limits(limit), cost, num_workers=num_workers)
    with pytest.raises(UsageError, match="cannot be checked"):
        check_limits(read_limits("1h"), replace(cost, seconds=None, longest_seconds=None), num_workers=2)


@pytest.mark.parametrize("flops", [MAX_CPU_FLOPS + 1, 999 * 10**15, 10**18, 10**22 + 1])
def test_a_cpu_trains_more_than_a_day_at_1_tflops_only_within_a_limit_that_is_named(flops):
    check_cpu(MAX_CPU_FLOPS, [])
    with pytest.raises(UsageError, match="days at 1 TFLOP/s; nothing was started") as refused:
        check_cpu(flops, read_limits("5GB"))
    typed = str(refused.value).partition("limit=")[2].split()[0]
    check_cpu(flops, read_limits(typed))
    cost = Price(flops=flops, seconds=None, longest_seconds=None, weights_bytes=0, checkpoint_bytes=0)
    check_limits(read_limits(typed), cost, num_workers=1)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "1.5 min"), (5399, "90.0 min"), (5400, "1.5 h")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_hours_are_those_of_all_ranks(base):
    runs = [replace(base, device="cuda", ranks=4), replace(base, device="cuda", seed=1)]
    cost = price(runs, lambda run: RunSeconds(3000.0, 600.0))
    assert (cost.hours, cost.hours_text) == ((5.0, 0.0), "5 GPU-hours")
    assert price([base], lambda run: RunSeconds(3600.0, 0.0)).hours_text == "1 core-hours"
