"""Loading of items by number, in this process or in others."""

import signal
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from aimv2.base.errors import RunFailedError
from aimv2.base.interrupt import SIGNALS
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches

T = TypeVar("T")


class _Guarded(Dataset[Any]):
    """Items that return a failure of the run, because torch would pass it on from a process without its cause."""

    def __init__(self, items: Dataset[Any]) -> None:
        self._items = items

    def __getitem__(self, number: int) -> Any:
        try:
            return self._items[number]
        except RunFailedError as error:
            return error


def loaded(items: Dataset[T], numbers: range, *, num_workers: int, pin_memory: bool) -> Iterator[T]:
    """Load items by number, in order, with processes that ignore a scheduler's signals.

    Raises:
        RunFailedError: as the items, in any process.
    """
    found: DataLoader[T | RunFailedError] = DataLoader(
        _Guarded(items),
        sampler=numbers,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=ignore_signals,
    )
    for item in found:
        if isinstance(item, RunFailedError):
            raise item
        yield item


def loader(batches: TrainBatches, *, first_step: int, pin_memory: bool) -> Iterator[Batch]:
    """Load the batches from ``first_step`` on, in order, with ``loader.num_workers`` processes.

    Raises:
        RunFailedError: the data is broken (cause ``data``).
    """
    steps = range(first_step, len(batches))
    return loaded(batches, steps, num_workers=batches.config.loader.num_workers, pin_memory=pin_memory)


def ignore_signals(worker: int) -> None:
    """Ignore a scheduler's signals, which reach all processes of a job: the training process ends its loaders."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
