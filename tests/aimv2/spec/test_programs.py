"""What can be added as another model."""

from dataclasses import dataclass

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import PROGRAMS, Program
from aimv2.spec.metrics import Definition, lower_is_better, unit_of
from aimv2.spec.programs import add_program, check_values, metrics_of
from tests.helpers.other_model import Mean

ERROR = Definition("mean_error", "squared", True)


@dataclass(frozen=True, kw_only=True)
class Listed(Program):
    values: list[int] | tuple[int, ...] = (1,)

    def measure(self, run):
        return {}


class Plain(Program):
    def measure(self, run):
        return {}


@dataclass(frozen=True)
class Idle(Program):
    pass


@pytest.mark.parametrize(
    ("name", "program", "metrics", "message"),
    [
        ("mean", Listed, [ERROR], "the program 'mean' exists already"),
        ("other", int, [ERROR], "is not a subclass of Program with a measure"),
        ("other", Idle, [ERROR], "is not a subclass of Program with a measure"),
        ("other", Plain, [ERROR], "Plain is not a frozen dataclass"),
        ("other", Listed, [], "has no metric"),
        ("other", Listed, [Definition("mean_error", "squared", False)], "'mean_error' exists already, and is another"),
        ("other", Listed, [Definition("caption_loss", "nats", True)], "'caption_loss' exists already"),
    ],
)
def test_what_is_no_program_is_refused(name, program, metrics, message):
    with pytest.raises(UsageError, match=message):
        add_program(name, program, *metrics)
    assert "other" not in PROGRAMS


def test_metrics_of_a_program_are_known_by_their_names():
    assert metrics_of(Mean()) == ["mean_error", "largest_error"]
    assert unit_of("largest_error") == "squared"
    assert lower_is_better("mean_error")


def test_values_must_be_comparable():
    check_values(Listed())
    with pytest.raises(UsageError, match=r"values must be a tuple, not a list or dict"):
        check_values(Listed(values=[1]))
