"""A seventh objective, as docs/architecture.md shows it: one file and one line."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.config.resolve import with_attention
from aimv2.config.signature import signature
from aimv2.execute import execute
from aimv2.objectives import REGISTRY, objective
from aimv2.runs.record import RunFolder

PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"


@pytest.fixture
def seventh(tmp_path, monkeypatch):
    """The page's file on the path and its line in the registry."""
    file, line = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    name, target = re.fullmatch(r'\s*"(\w+)": "([\w.:]+)",\n', line).groups()
    module = target.partition(":")[0]
    (tmp_path / "seventh_objective.py").write_text(file)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(REGISTRY, name, target.replace(module, "seventh_objective"))
    yield name
    sys.modules.pop("seventh_objective", None)


def test_a_file_and_a_line_are_enough_to_train_evaluate_and_price(seventh, tiny, tmp_path):
    config = with_attention(replace(tiny, objective=replace(tiny.objective, name=seventh)))
    run = RunFolder(tmp_path / "runs", signature(config))
    assert execute(run.acquire(config), config) is None
    result = run.result()
    assert result["train_flops"] > 0
    assert result["metrics"]["caption_loss"]["value"] > 0
    assert result["metrics"]["pixel_loss_0.5"]["value"] is None
    assert (run.metrics()["smoothed_loss"].dropna() > 0).all()


@pytest.mark.parametrize("name", REGISTRY)
def test_every_line_leads_to_an_objective_that_says_what_it_is(name):
    goal = objective(name)
    assert goal.attention in ("prefix", "bidirectional")
    assert goal.reports
    assert set(goal.reports) <= {"captions", "pixels", "retrieval"}
    assert type(goal).__doc__
