import pytest

from aimv2.config.paths import replaced
from aimv2.data.batches.training import TrainBatches
from aimv2.data.expected import mean_supervised_tokens
from tests.helpers.marks import exhaustive

NUM_SAMPLES = 4000


@pytest.mark.parametrize(
    "changes",
    [
        {},
        exhaustive({"objective.supervise_eos": True}),
        exhaustive({"data.dense_fraction": 1.0}),
        {"data.dense_fraction": 0.0, "data.weights": (1, 9)},
        exhaustive({"data.weights": (3, 1), "data.captions": "shuffled"}),
        exhaustive({"model.max_text_tokens": 4}),
    ],
    ids=str,
)
def test_mean_is_that_of_the_samples_that_training_draws(tiny, pairs, changes):
    config = replaced(tiny, {"budget.samples": NUM_SAMPLES, "budget.batch_size": 500} | changes)
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    drawn = sum(batches[step].num_supervised for step in range(len(batches))) / NUM_SAMPLES
    assert mean_supervised_tokens(config) == pytest.approx(drawn, rel=0.025), "four standard errors"
