"""The golden run, and the rows that the loop records."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aimv2.base.errors import RunFailedError
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.config.training_config import LoaderConfig, LogConfig
from aimv2.cost import train_flops
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.definitions.objectives import objective
from aimv2.memory.training import Setup
from aimv2.objectives.build import build
from aimv2.request.resolve import resolve
from aimv2.training.loop import load_steps
from tests.helpers.training import Rows, run

GOLDEN = Path(__file__).parents[2] / "golden" / "demo_losses.json"
GOLDEN_STEPS = 12
LOSSES = ("pixel_loss", "text_loss", "gradient_norm")


def golden_rows(cache_dir):
    config = resolve(demo())
    config = replace(
        config,
        budget=replace(config.budget, samples=GOLDEN_STEPS * config.budget.batch_size),
        data=replace(config.data, cache_dir=cache_dir),
        device="cpu",
        precision="float32",
    )
    pairs = prepare(config.data, config.model.vocab_size)
    return [{name: row[name] for name in ("step", *LOSSES)} for row in run(config, pairs)[1] if "text_loss" in row]


def test_golden_run_reproduces(cache_dir):
    golden = json.loads(GOLDEN.read_text())
    actual = golden_rows(cache_dir)
    assert len(actual) == GOLDEN_STEPS
    for row, expected in zip(actual, golden["rows"], strict=True):
        for name in LOSSES:
            # Other processors add in another order; what is computed stays the same.
            assert row[name] == pytest.approx(expected[name], rel=1e-4), (
                f"{name} at step {row['step']}; {golden['made_with']}"
            )


def test_means_of_a_single_rank_are_those_of_the_batch_in_micro_batches_too(tiny, pairs):
    config = replace(tiny, micro_batch=3)
    of_rank = replaced(config, {"objective.pixel_patches": "rank", "objective.text_tokens": "rank"})
    rows = [[{name: row.get(name) for name in LOSSES} for row in run(one, pairs)[1]] for one in (config, of_rank)]
    assert rows[0] == rows[1]


def test_log_interval_does_not_change_the_recorded_steps(tiny, pairs, with_samples):
    config = with_samples(tiny, 40)
    every = run(config, pairs)[1]
    seldom = run(replace(config, log=LogConfig(every_steps=4)), pairs)[1]
    assert [row["step"] for row in every] == [row["step"] for row in seldom] == [0, 1, 2, 3, 4, 5]
    for one, other in zip(every[1:], seldom[1:], strict=True):
        assert all(one[name] == other[name] for name in (*LOSSES, "learning_rate", "train_flops", "samples"))
        assert other["images_per_second"] > 0


def test_cpu_seconds_of_steps_leave_out_the_held_out_curve(tiny, pairs, with_samples):
    record = Rows()

    def slow_curve(model):
        record.advance(1000)
        return {"held_out_caption_loss": 1.5}

    rows = run(with_samples(tiny, 40), pairs, record=record, held_out=slow_curve)[1]
    assert sum("held_out_caption_loss" in row for row in rows) > 1
    assert "step_cpu_seconds" not in rows[0]
    assert all(0 < row["step_cpu_seconds"] < 10 for row in rows[1:])


def test_rows_record_samples_and_flops(tiny, pairs):
    _, rows, flops = run(tiny, pairs)
    batches = TrainBatches(tiny, pairs.train, pairs.tokenizer)
    supervised = sum(len(batches[step].supervised_N) for step in range(2))
    assert rows[-1]["samples"] == 16
    assert rows[-1]["train_flops"] == flops == train_flops(objective("aimv2").cost(tiny), 16, supervised)


def test_gradient_balance_is_measured_at_curve_points_and_changes_nothing(tiny, pairs, with_samples):
    config = with_samples(tiny, 40)
    config = replace(config, evaluation=replace(config.evaluation, curve_points=3))
    rows = run(config, pairs)[1]
    assert [row["step"] for row in rows if "gradient_cosine" in row] == [1, 2, 5]
    unshared = replace(objective("aimv2"), implementation="tests.helpers.training:Unshared")
    without = run(config, pairs, goal=unshared)[1]
    assert not any("gradient_cosine" in row for row in without)
    assert [[row.get(name) for name in LOSSES] for row in rows] == [
        [row.get(name) for name in LOSSES] for row in without
    ]


def test_loss_that_is_not_finite_stops_the_run_and_names_the_step(tiny, pairs, with_samples):
    config = with_samples(tiny, 80)
    config = replace(config, optimizer=replace(config.optimizer, peak_lr=1e30, warmup_fraction=0.01))
    record = Rows()
    with pytest.raises(
        RunFailedError, match=r"^(pixel_loss|text_loss|gradient_norm) is (nan|inf) at step \d+$"
    ) as caught:
        run(config, pairs, record=record)
    assert caught.value.cause == "not finite"
    named = int(str(caught.value).split()[-1])
    assert [row["step"] for row in record.rows] == list(range(named)), "earlier steps are recorded"


def test_run_without_samples_takes_no_step(tiny, pairs, with_samples):
    model, rows, flops = run(with_samples(tiny, 0), pairs)
    start = build(tiny).state_dict()
    assert (rows, flops) == ([], 0)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_steps_are_loaded_in_the_micro_batches_of_the_setup(tiny, pairs, with_samples, num_workers):
    config = replace(with_samples(tiny, 40), loader=LoaderConfig(num_workers=num_workers))
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    found = list(load_steps(batches, SETUP, first_step=2))
    assert len(found) == 3
    for step, parts in enumerate(found, start=2):
        expected = batches[step].split(3)
        assert [len(part.image) for part in parts] == [3, 3, 2]
        for one, other in zip(parts, expected, strict=True):
            assert torch.equal(one.token_BT, other.token_BT)
            assert torch.equal(one.to(torch.device("cpu")).image, other.image)


SETUP = Setup(parallel="ddp", micro_batch=3, activation_checkpointing=False)
