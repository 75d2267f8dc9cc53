"""What can be added as another model."""

import re
from dataclasses import dataclass, replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.base.plugins import using
from aimv2.config.program import PROGRAMS, Program, replaced
from aimv2.config.run_config import RunConfig
from aimv2.cost import train_flops
from aimv2.definitions.metrics import Definition, lower_is_better, unit_of
from aimv2.definitions.objectives import objective
from aimv2.definitions.programs import (
    add_program,
    check_plugins,
    check_values,
    max_train_flops,
    metrics_of,
    with_plugins,
)
from tests.helpers.other_model import Mean

ERROR = Definition("mean_error", "squared", True)


@dataclass(frozen=True, kw_only=True)
class Listed(Program):
    numbers: list[int] | tuple[int, ...] = (1,)

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
    with pytest.raises(UsageError, match="numbers must be a tuple, not a list"):
        check_values(Listed(numbers=[1]))


LAW = """
from aimv2.config.prefix import prefix_distribution
import numpy as np

@prefix_distribution
def ramp(num_patches, progress, start=0.0):
    return np.full(num_patches - 1, 1 / (num_patches - 1))
"""
METRIC = """
from aimv2.definitions.metrics import metric

@metric("share", lower_is_better=False)
def cka(model):
    return 1
"""
WITH = {"prefix.law": "ramp", "evaluation.metrics": ("cka",)}


def test_a_run_names_the_plugins_of_its_values_and_no_others(tiny, plugged):
    law, metric = plugged(LAW, "law.py"), plugged(METRIC, "metric.py")
    assert with_plugins(tiny) == tiny, "a run that uses nothing of a plug-in keeps its name"
    run = with_plugins(replaced(tiny, WITH))
    assert {path: one.partition("@")[0] for path, one in run.plugins.items()} == {
        "prefix.law": law.name,
        "evaluation.metrics.cka": metric.name,
    }
    assert run.prefix.parameters == {"start": 0.0}, "a default that is typed names the same run"
    assert with_plugins(replaced(tiny, WITH | {"prefix.parameters.start": 0})) == run
    assert set(run.untrained().plugins) == {"evaluation.metrics.cka"}
    assert RunConfig.from_dict(run.to_dict()) == run
    assert hash(run) == hash(RunConfig.from_dict(run.to_dict()))
    assert with_plugins(replaced(run, {"prefix": {}, "evaluation.metrics": ()})) == tiny


def test_an_edited_plugin_names_other_runs_and_its_file_name_does_not(tiny, tmp_path):
    names = []
    for file, text in (("one.py", LAW), ("other.py", LAW), ("one.py", f"{LAW}# edited")):
        (tmp_path / file).write_text(text)
        with using([tmp_path / file]):
            names.append(with_plugins(replaced(tiny, {"prefix.law": "ramp"})).name)
    assert names[0] == names[1] != names[2]


def test_a_run_is_executed_with_its_own_plugins_only(tiny, plugged):
    plugged(LAW, "law.py")
    run = with_plugins(replaced(tiny, {"prefix.law": "ramp"}))
    check_plugins(run, "v2")
    other = replace(run, plugins={"prefix.law": "law.py@000000000000"})
    with pytest.raises(
        UsageError, match=r"^run v2 needs the plug-in law\.py with the content 0{12}, and .*was edited$"
    ):
        check_plugins(other, "v2")
    missing = replace(run, plugins={"prefix.law": "gone.py@000000000000"})
    with pytest.raises(
        UsageError, match=re.escape("needs the plug-in gone.py (000000000000); type plugins=[PATH/gone")
    ):
        check_plugins(missing, "v2")
    with pytest.raises(UsageError, match="has values of plug-ins that its config does not name"):
        check_plugins(replace(run, plugins={}), "v2")


def test_max_train_flops_are_those_of_all_parts_with_full_captions(tiny):
    parts = objective("aimv2").cost(tiny)
    assert max_train_flops(tiny, 320) == train_flops(parts, 320, 320 * tiny.model.max_text_tokens)
