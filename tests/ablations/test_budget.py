"""Matched budgets, against the cost in closed form."""

from dataclasses import replace
from functools import cache

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.study import matched
from aimv2.config.paths import replaced
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import BudgetConfig, ObjectiveConfig
from aimv2.cost.parts import train_flops
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.spec.objectives import objective
from tests.helpers.marks import exhaustive


@pytest.fixture(scope="module")
def base(tiny):
    """A run of 4,000 samples in which the vocabulary is a large part of the cost, as in the recipes."""
    return replaced(
        tiny, {"budget.samples": 4000, "budget.batch_size": 40, "model.vocab_size": 1024, "model.decoder.depth": 3}
    )


@cache
def supervised(data, model, supervise_eos):
    """Return the supervised tokens of the first 4,000 training samples, read as training reads them."""
    config = RunConfig(
        scale="test",
        data=data,
        model=model,
        budget=BudgetConfig(samples=4000, batch_size=500),
        objective=ObjectiveConfig(supervise_eos=supervise_eos),
    )
    pairs = prepare(data, model.vocab_size)
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    return sum(batches[step].num_supervised for step in range(len(batches)))


def realised(run):
    """Return the training FLOPs of a run whose captions are as long as those of the first 4,000 samples."""
    parts, samples = objective(run.objective.name).cost(run), run.budget.samples
    first = supervised(run.data, run.model, run.objective.supervise_eos)
    return train_flops(parts, samples, round(first * samples / 4000))


@pytest.mark.parametrize("slug", ["eos", *map(exhaustive, ("objective", "decoder_width", "synthetic_fraction"))])
def test_equal_flops_are_equal_once_the_captions_are_read(base, slug):
    study = replace(STUDIES[slug], equal="flops")
    cells = {cell.arm: cell.config for cell in expand(study, base, seeds=[0]) if cell.arm in study.arms}
    flops = {arm: realised(run) for arm, run in cells.items()}
    for arm, run in cells.items():
        half_a_batch = realised(run) * run.budget.batch_size / run.budget.samples / 2
        assert flops[arm] == pytest.approx(flops[study.baseline], abs=0.01 * flops[study.baseline] + half_a_batch)


def test_equal_samples_leave_an_arms_own_samples(base):
    larger = replaced(base, {"budget.samples": 40_960})
    assert matched(larger, base, "samples") == larger
