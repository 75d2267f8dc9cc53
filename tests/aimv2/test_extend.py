"""Plug-ins get all that they need from one module, which loads nothing that they do not use."""

import subprocess
import sys

import pytest

from aimv2 import extend
from aimv2.ablations.catalogue import STUDIES
from aimv2.base.errors import UsageError
from aimv2.definitions.metrics import METRICS
from aimv2.definitions.objectives import OBJECTIVES


@pytest.mark.parametrize("name", extend.__all__)
def test_every_name_is_there(name):
    assert getattr(extend, name) is not None


def test_an_unknown_name_is_answered_with_those_that_exist(plugged):
    with pytest.raises(AttributeError, match=r"aimv2\.extend has no 'metrik'; it has Definition, Items, OB"):
        extend.metrik  # noqa: B018
    with pytest.raises(UsageError, match="cannot import name 'metrik'"):
        plugged("from aimv2.extend import metrik")


def test_a_metric_loads_neither_studies_nor_sweeps_nor_torch():
    code = (
        "import sys; from aimv2.extend import metric, prefix_distribution; "
        "print([name for name in sys.modules if name in ('torch', 'aimv2.ablations', 'aimv2.sweeps')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_what_a_plugin_adds_is_there_while_it_is_loaded(plugged):
    plugged(
        "from aimv2.extend import *\n"
        "@metric('share', lower_is_better=True)\ndef cka(model): return 1\n"
        "objective('later', OBJECTIVES['caption'])\n"
        "study(slug='mine', question='?', source='none', baseline='a', primary_metric='cka',"
        " design=one_factor(a=setting('a', {}), b=setting('b', {'prefix.per': 'batch'})))\n"
    )
    assert "cka" in METRICS
    assert OBJECTIVES["later"] is OBJECTIVES["caption"]
    assert list(STUDIES)[-1] == "mine"
    assert STUDIES["mine"].lower_is_better


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("objective('mine', 1)", "1 is not an Objective"),
        ("objective('clip', OBJECTIVES['clip'])", "the objective.name 'clip' exists already, built in"),
        ("study(slug='mine')", "TypeError: Study.__init__() missing"),
        ("metric('share', lower_is_better=True)(1)", "@metric stands above a function, not 1"),
        ("metric('share', lower_is_better=True)(lambda model: 1)", "a metric is called '<lambda>'; use letters"),
        ("@metric('share', lower_is_better=True)\ndef probe_mine(model): 1", "the metric 'probe_mine' exists already"),
    ],
)
def test_what_cannot_be_added_is_one_sentence(plugged, line, message):
    with pytest.raises(UsageError) as caught:
        plugged(f"from aimv2.extend import *\n{line}\n")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
