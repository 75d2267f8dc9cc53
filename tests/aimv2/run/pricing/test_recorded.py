"""The table of times, against records with known numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.config.paths import replaced
from aimv2.run.pricing.recorded import EFFORTS, TIMES, nearest, recorded, remember, seconds_of


@pytest.fixture
def table(record):
    """Return the table after these runs, as another process reads it."""

    def read(*runs):
        for run in runs:
            remember(run, record(run))
        return recorded(Path(runs[0].data.cache_dir))

    return read


def test_seconds_are_those_of_the_record(tiny, record):
    assert seconds_of(record(tiny)) == pytest.approx({"training": 1 / 100, "evaluation": 1 + 10})
    assert seconds_of(record(tiny.untrained())) == pytest.approx({"evaluation": 11})


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({"device": "cpu"}, (0.5 / 100, (1 + 4 + 10) / 2)),
        ({"threads": 2}, (1 / 100, 1 + 10)),
        ({"loader.num_workers": 2}, (1 / 100, 1 + 10)),
        ({"data.sources": ("pets.yaml",)}, (1 / 100, 1 + 10)),
    ],
    ids=str,
)
def test_a_short_run_of_one_thread_counts_its_cpu_time(tiny, record, change, seconds):
    run = replaced(tiny, change)
    found = {one.part: one.seconds for one in remember(run, record(run), is_short=True)}
    assert (found["training"], found["evaluation"]) == pytest.approx(seconds)
    assert [one.seconds for one in remember(run, record(run))] == pytest.approx([11, 1 / 100])


def test_a_run_of_the_same_shape_has_the_times_of_the_last_one(tiny, record):
    for seed, speed, evaluation in ((0, 100.0, 10.0), (1, 200.0, 20.0)):
        remember(replace(tiny, seed=seed), record(replace(tiny, seed=seed), speed=speed, evaluation=evaluation))
    table = recorded(Path(tiny.data.cache_dir))
    assert {one.run for one in table} == {replace(tiny, seed=1).name}
    longer = replaced(tiny, {"budget.samples": 32, "seed": 9})
    assert nearest(longer, "training", table)[0] == pytest.approx(1 / 200)
    assert nearest(longer.untrained(), "evaluation", table)[0] == pytest.approx(1 + 20)


@pytest.mark.parametrize(
    "change",
    [{"model.patch_px": 2}, {"budget.batch_size": 4}, {"model.decoder.depth": 3}, {"start.frozen": ("encoder",)}],
    ids=str,
)
def test_a_run_of_another_shape_takes_the_nearest_times_the_ratio_of_efforts(tiny, table, change):
    other, far = replaced(tiny, change), replaced(tiny, {"model.encoder.depth": 12})
    seconds, source = nearest(other, "training", table(tiny, far))
    assert source.run == tiny.name
    ratio = EFFORTS["training"](other) / EFFORTS["training"](tiny)
    assert ratio != 1
    assert seconds == pytest.approx(ratio / 100)


@pytest.mark.parametrize("change", [{"threads": 2}, {"precision": "bfloat16"}, {"model.encoder.depth": 64}], ids=str)
def test_a_run_on_another_machine_or_with_another_order_of_effort_is_not_known(tiny, table, change):
    other = replaced(tiny, change)
    assert nearest(other, "training", table(tiny)) is None
    assert nearest(other, "training", table(tiny, other))[1].run == other.name


def test_causal_runs_take_the_time_of_prefix_runs(tiny, table):
    causal = replaced(tiny, {"model.encoder.attention": "causal"})
    seconds, source = nearest(causal, "training", table(tiny))
    assert seconds == pytest.approx(1 / 100)
    assert source.run == tiny.name


def test_a_record_without_times_and_a_broken_file_are_skipped(tiny, record, table):
    assert len(table(tiny)) == 2
    broken, other = sorted((Path(tiny.data.cache_dir) / TIMES).iterdir())
    broken.write_text("{")
    assert len(recorded(Path(tiny.data.cache_dir))) == 1
    other.write_text(json.dumps({"images_per_second": 3}))
    assert recorded(Path(tiny.data.cache_dir)) == []
    run = record(replace(tiny, seed=1))
    (run / "result.json").write_text("[]")
    assert remember(replace(tiny, seed=1), run) == []


def test_times_that_cannot_be_written_are_returned(tiny, record):
    nowhere = replaced(tiny, {"data.cache_dir": "/dev/null/cache"})
    assert [one.seconds for one in remember(nowhere, record(nowhere))] == pytest.approx([11, 1 / 100])


@pytest.mark.parametrize(
    "change", [{"effort": 0}, {"seconds": -1.0}, {"effort": float("nan")}, {"effort": "much"}], ids=str
)
def test_a_file_with_impossible_numbers_is_skipped(tiny, table, change):
    assert len(table(tiny)) == 2
    broken = min((Path(tiny.data.cache_dir) / TIMES).iterdir())
    broken.write_text(json.dumps(json.loads(broken.read_text()) | change))
    assert len(recorded(Path(tiny.data.cache_dir))) == 1
