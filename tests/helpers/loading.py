"""Training batches as the loader gives them, each in one piece."""

import torch

from aimv2.memory.training import Setup
from aimv2.training.loop import load_steps


def whole_batches(batches, first_step=0):
    """Yield the batches from a step on, with captions of the full width, as the network reads them."""
    setup = Setup(parallel="ddp", micro_batch=batches.config.budget.batch_size, activation_checkpointing=False)
    for parts in load_steps(batches, setup, has_padding=True, first_step=first_step):
        (batch,) = parts
        yield batch.to(torch.device("cpu"))
