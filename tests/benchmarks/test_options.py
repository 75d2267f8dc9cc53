"""The command that is kept with results, and the device."""

import pytest
import torch

from aimv2.base.errors import UsageError
from benchmarks.costs import CostOptions
from benchmarks.options import Kept, TimedOnDevice, command_of


def test_the_command_has_what_is_not_the_default_and_changes_numbers():
    assert command_of("ledger", Kept(json="results.json")) == "python -m benchmarks ledger"
    options = CostOptions(patches=(16, 64), clock="cpu", depth=24, reports_dir="elsewhere")
    assert command_of("costs", options) == "python -m benchmarks costs clock=cpu 'patches=[16,64]'"


@pytest.mark.parametrize(
    ("has_cuda", "device", "clock", "found"),
    [
        (False, "auto", "cpu", "cpu"),
        (True, "cpu", "cpu", "cpu"),
        (True, "auto", "wall", "cuda"),
        (False, "cuda", "wall", "finds no CUDA device"),
        (True, "auto", "cpu", "clock=cpu does not see the work of a CUDA device"),
    ],
)
def test_a_device_that_is_missing_or_whose_work_the_clock_does_not_see_is_refused(
    monkeypatch, has_cuda, device, clock, found
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    options = TimedOnDevice(device=device, clock=clock)
    if found in ("cpu", "cuda"):
        assert options.found_device == found
    else:
        with pytest.raises(UsageError, match=found):
            _ = options.found_device
