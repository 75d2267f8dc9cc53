from dataclasses import replace

import pytest
import torch

from aimv2.config.training_config import LoaderConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.memory.training import Setup
from aimv2.training.loading import load_steps

SETUP = Setup(parallel="ddp", micro_batch=3, activation_checkpointing=False)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_steps_are_loaded_in_the_micro_batches_of_the_setup(tiny, pairs, with_samples, num_workers):
    """As a whole batch is cut, from any step on."""
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
