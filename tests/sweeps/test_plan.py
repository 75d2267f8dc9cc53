from dataclasses import replace

import pytest

from ablations.expand import Cell
from aimv2.evaluation.metrics import Metric
from sweeps.plan import Plan


@pytest.fixture
def plan(tiny, tmp_path):
    """Three cells of two runs, the shorter one first."""
    short, long = tiny, replace(tiny, budget=replace(tiny.budget, samples=80))
    cells = [Cell(arm=arm, seed=0, config=config) for arm, config in {"a": short, "b": long, "c": long}.items()]
    return Plan("a plan", cells, tmp_path)


def test_cells_with_equal_configs_share_a_run_and_long_runs_come_first(plan):
    short, long, shared = plan.cells
    assert list(plan.runs) == [long.name, short.name]
    assert plan.cell_of[long.name] is shared
    assert plan.configs([short.name]) == [short.config]


def test_a_finished_run_is_not_among_the_remaining(plan):
    short, long, _ = plan.cells
    assert plan.remaining() == [long.name, short.name]
    with plan.runs[short.name].acquire(short.config) as attempt:
        attempt.publish({"caption_loss": Metric(1.0, "nats/token", "a test")})
    assert plan.remaining() == [long.name]
    assert plan.states() == {long.name: "new", short.name: "done"}
    assert plan.num_attempts() == 1


@pytest.mark.exhaustive
def test_prepare_data_renders_pictures_and_trains_the_tokenizer(tiny, tmp_path):
    data = replace(tiny.data, sources=("fontawesome",), cache_dir=str(tmp_path / "cache"))
    Plan("a plan", [Cell(arm="a", seed=0, config=replace(tiny, data=data))], tmp_path).prepare_data()
    made = {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {".tar", ".json"} <= made
