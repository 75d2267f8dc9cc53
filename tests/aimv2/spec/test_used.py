"""A run names the plug-ins of its values, and these only, and is executed with them only."""

import re
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.base.plugins import using
from aimv2.config.paths import replaced
from aimv2.config.run_config import RunConfig
from aimv2.spec.used import check_plugins, with_plugins

LAW = """
from aimv2.config.prefix import prefix_distribution
import numpy as np

@prefix_distribution
def ramp(num_patches, progress, start=0.0):
    return np.full(num_patches - 1, 1 / (num_patches - 1))
"""
METRIC = """
from aimv2.spec.plugin_metrics import metric

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
