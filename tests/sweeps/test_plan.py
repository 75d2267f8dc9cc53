import shutil
from dataclasses import replace

import pytest

from ablations.expand import Cell
from aimv2.config.signature import signature
from aimv2.errors import UsageError
from aimv2.evaluation.metrics import Metric
from aimv2.runs.index import read
from aimv2.runs.record import LAYOUT_VERSION, RunFolder
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


def test_item_5_a_result_of_another_layout_is_refused_when_planning(plan):
    short, long, _ = plan.cells
    for config in (short.config, long.config):
        with RunFolder(plan.runs_dir, signature(config)).acquire(config) as attempt:
            attempt.publish({"caption_loss": Metric(1.0, "nats/token", "a test")})
    path = plan.runs_dir / long.name / "result.json"
    path.write_text(path.read_text().replace(f'"layout_version": {LAYOUT_VERSION}', '"layout_version": 1'))
    shutil.rmtree(plan.runs_dir / "index")
    with pytest.raises(UsageError, match="has layout 1 and this version reads layout 2; use the version that wrote it"):
        plan.remaining()
    path.write_text("[]")
    with pytest.raises(UsageError, match="is not the result of a run; delete"):
        plan.remaining()


def test_planning_completes_the_index(plan):
    """Of a folder that an older version wrote."""
    short, long, _ = plan.cells
    with plan.runs[short.name].acquire(short.config) as attempt:
        attempt.publish({"caption_loss": Metric(1.0, "nats/token", "a test")})
    shutil.rmtree(plan.runs_dir / "index")
    assert plan.remaining() == [long.name]
    assert read(plan.runs_dir) == {}
    assert plan.remaining(repair=True) == [long.name]
    assert read(plan.runs_dir)[short.name].state == "done"


@pytest.mark.exhaustive
def test_prepare_data_renders_pictures_and_trains_the_tokenizer(tiny, tmp_path):
    data = replace(tiny.data, sources=("fontawesome",), cache_dir=str(tmp_path / "cache"))
    Plan("a plan", [Cell(arm="a", seed=0, config=replace(tiny, data=data))], tmp_path).prepare_data()
    made = {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {".tar", ".json"} <= made
