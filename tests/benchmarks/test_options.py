"""The command that is kept with results."""

from benchmarks.costs import CostOptions
from benchmarks.options import Kept, command_of


def test_the_command_has_what_is_not_the_default_and_changes_numbers():
    assert command_of("load", Kept(json="results.json")) == "python -m benchmarks load"
    options = CostOptions(patches=(16, 64), clock="cpu", depth=24, reports_dir="elsewhere")
    assert command_of("costs", options) == "python -m benchmarks costs clock=cpu 'patches=[16,64]'"
