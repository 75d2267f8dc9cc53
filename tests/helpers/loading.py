"""Training batches as the loader gives them, each in one piece."""

import torch

from aimv2.data.batches.loader import loader
from aimv2.memory import loading_of, setup_of


def whole_batches(batches, first_step=0):
    """Yield the batches from a step on, with captions of the full width, as the network reads them."""
    size = batches.config.budget.batch_size
    loading = loading_of(batches.config, setup_of(batches.config))
    steps = loader(batches, micro_batch=size, has_padding=True, first_step=first_step, num_workers=loading.num_workers)
    for parts in steps:
        (batch,) = parts
        yield batch.to(torch.device("cpu"))
