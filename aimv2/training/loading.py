"""The micro-batches of training, step by step, from the loader processes that this machine has room for."""

from collections.abc import Iterator

from aimv2.data.batches.batch import Batch
from aimv2.data.batches.loader import loader
from aimv2.data.batches.training import TrainBatches
from aimv2.memory.setup import loading_of
from aimv2.memory.training import Setup


def load_steps(
    batches: TrainBatches, setup: Setup, *, has_padding: bool = False, first_step: int = 0
) -> Iterator[list[Batch]]:
    """Load the micro-batches of each step from ``first_step`` on, each with its own counts, for a GPU page-locked.

    Args:
        batches: whole batches, or a rank's shares of them.
        has_padding: as in ``Batch.split``.

    Raises:
        UsageError: as in ``loading_of``.
        RunFailedError: the data is broken (cause ``data``).
    """
    loading = loading_of(batches.config, setup)
    return loader(
        batches,
        micro_batch=setup.micro_batch,
        has_padding=has_padding,
        first_step=first_step,
        num_workers=loading.num_workers,
        prefetched=loading.prefetched,
        pin_memory=batches.config.device == "cuda",
    )
