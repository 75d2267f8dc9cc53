"""Results as text, the command beside them, and the device."""

import math

import pytest
import torch

from aimv2.base.errors import UsageError
from benchmarks.encoder import EncoderOptions
from benchmarks.results import Table, TimedOnDevice, cell_text, command_of
from benchmarks.timing import Median

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


def test_the_command_has_what_is_not_the_default():
    options = EncoderOptions(patches=(16, 64), clock="cpu", depth=24)
    assert command_of("encoder", options) == "python -m benchmarks encoder clock=cpu 'patches=[16,64]'"


@pytest.mark.parametrize(
    ("has_cuda", "device", "clock", "expected"),
    [
        (False, "auto", "cpu", "cpu"),
        (True, "cpu", "cpu", "cpu"),
        (True, "auto", "wall", "cuda"),
        (False, "cuda", "wall", "finds no CUDA device"),
        (True, "auto", "cpu", "clock=cpu does not see the work of a CUDA device"),
    ],
)
def test_a_device_that_is_missing_or_whose_work_the_clock_does_not_see_is_refused(
    monkeypatch, has_cuda, device, clock, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    options = TimedOnDevice(device=device, clock=clock)
    if expected in ("cpu", "cuda"):
        assert options.resolved_device == expected
    else:
        with pytest.raises(UsageError, match=expected):
            _ = options.resolved_device
