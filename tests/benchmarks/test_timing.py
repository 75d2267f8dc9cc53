"""Timings with a simulated clock, ratios of timings with known ratios, and results as text."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from benchmarks.timing import Median, Table, TimedOnDevice, cell_text, interleaved, relative


class Clock:
    """A clock that only the work advances."""

    def __init__(self):
        self.now = 100.0
        self.done = []
        self.pending = 0.0

    def __call__(self):
        """Wait for the device and return the time."""
        self.now += self.pending
        self.pending = 0.0
        return self.now

    def work(self, name, seconds):
        """Return a call that takes this long; ``seconds`` may be a function of the time."""

        def call():
            self.done.append(name)
            self.now += seconds(self.now) if callable(seconds) else seconds

        return call

    def launch(self, seconds):
        """Return a call that returns at once and leaves the work to a device."""

        def call():
            self.pending += seconds

        return call


def test_interleaved_times_every_call_once_per_repeat_in_rotating_order():
    clock = Clock()
    calls = {name: clock.work(name, seconds) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 4.0))}
    seconds = interleaved(calls, 4, clock=clock)
    assert {name: timings.tolist() for name, timings in seconds.items()} == {"a": [1] * 4, "b": [2] * 4, "c": [4] * 4}
    warm_up, timed = clock.done[:-12], clock.done[-12:]
    assert set(warm_up) == {"a", "b", "c"}
    assert ["".join(timed[start : start + 3]) for start in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]


def test_interleaved_repeats_short_calls():
    clock = Clock()
    calls = {"short": clock.work("short", 0.004), "long": clock.work("long", 0.5)}
    seconds = interleaved(calls, 3, clock=clock)
    assert seconds["short"] == pytest.approx(0.004)
    assert seconds["long"] == pytest.approx(0.5)
    assert "".join(name[0] for name in clock.done[-42:]) == "s" * 13 + "ll" + "s" * 13 + "s" * 13 + "l"


def test_slowing_machine_does_not_change_the_ratio():
    clock = Clock()
    shares = {"ours": 0.01, "theirs": 0.015}
    calls = {name: clock.work(name, lambda now, share=share: share * now) for name, share in shares.items()}
    seconds = interleaved(calls, 40, clock=clock)
    assert seconds["ours"][-1] > 2 * seconds["ours"][0]
    assert np.median(seconds["theirs"] / seconds["ours"]) == pytest.approx(1.5, rel=0.02)


def test_interleaved_waits_for_the_device():
    clock = Clock()
    calls = {"a": clock.launch(1.0), "b": clock.launch(3.0)}
    seconds = interleaved(calls, 3, clock=clock)
    assert seconds["a"].tolist() == [1] * 3
    assert seconds["b"].tolist() == [3] * 3


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=25))
def test_interval_equals_an_obvious_loop(timings):
    """It is that of six rounds' extremes, and unknown with fewer."""
    theirs, ours = np.array(timings).T
    ratios = sorted(t / o for t, o in timings)
    count = len(ratios)
    middle = (ratios[(count - 1) // 2] + ratios[count // 2]) / 2
    # The k-th smallest and k-th largest hold the median between them unless fewer than k fall on one side of it.
    low = high = math.nan
    for k in range(1, count // 2 + 1):
        if sum(math.comb(count, below) for below in range(k)) / 2**count <= 0.025:
            low, high = ratios[k - 1], ratios[count - k]
    ratio = relative(theirs, ours)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((middle, low, high), nan_ok=True)


SURE, SHORT = Median(1.0, 0.96, 1.04), Median(2.0, math.nan, math.nan)


def test_cells_have_four_digits_and_intervals():
    cells = (0.012346, 12345.6, 12345, "text", None, SURE, SHORT)
    assert [cell_text(cell) for cell in cells] == ["0.01235", "12,346", "12,345", "text", "", "1 [0.96, 1.04]", "2"]


def test_a_table_is_markdown():
    rows = [{"loader": "ours", "rate": 1234.5, "ratio": None}, {"loader": "it", "rate": 7, "ratio": SURE}]
    assert Table("speeds", rows).to_markdown().splitlines() == [
        "**speeds**",
        "",
        "| loader | rate | ratio |",
        "| --- | --- | --- |",
        "| ours | 1,234 |  |",
        "| it | 7 | 1 [0.96, 1.04] |",
    ]


@pytest.mark.parametrize(
    ("has_cuda", "device", "expected"),
    [(False, "auto", "cpu"), (True, "cpu", "cpu"), (True, "auto", "cuda"), (False, "cuda", "finds no CUDA device")],
)
def test_a_device_that_is_missing_is_refused(monkeypatch, has_cuda, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    options = TimedOnDevice(device=device)
    if expected in ("cpu", "cuda"):
        assert options.resolved_device == expected
    else:
        with pytest.raises(UsageError, match=expected):
            _ = options.resolved_device
