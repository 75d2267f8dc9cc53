"""Loading of items and of micro-batches, in this process or in others."""

import atexit
import signal
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing import active_children
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

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._items[key]
        except RunFailedError as error:
            return error


def loaded(
    items: Dataset[T], keys: Iterable[Any], *, num_workers: int, pin_memory: bool, prefetched: int | None = None
) -> Iterator[T]:
    """Load items by their keys, in order, with processes that ignore a scheduler's signals.

    Args:
        prefetched: items that each process has ready or is preparing; by default 2.

    Raises:
        RunFailedError: as the items, in any process.
    """
    found: DataLoader[T | RunFailedError] = DataLoader(
        _Guarded(items),
        sampler=keys,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=prefetched if num_workers else None,
        worker_init_fn=ignore_signals,
    )
    for item in found:
        if isinstance(item, RunFailedError):
            raise item
        yield item


class MicroBatches(Dataset[Batch]):
    """The micro-batches of a run, by step and images (``TrainBatches.part``).

    Args:
        has_padding: as in ``Batch.split``.
    """

    def __init__(self, batches: TrainBatches, *, has_padding: bool) -> None:
        self._batches, self._has_padding = batches, has_padding

    def __getitem__(self, key: tuple[int, range]) -> Batch:
        step, images = key
        (part,) = self._batches.part(step, images).split(len(images), has_padding=self._has_padding)
        return part


def loader(
    batches: TrainBatches,
    *,
    micro_batch: int,
    has_padding: bool = False,
    first_step: int = 0,
    num_workers: int = 0,
    prefetched: int | None = None,
    pin_memory: bool = False,
) -> Iterator[list[Batch]]:
    """Load the micro-batches of each step from ``first_step`` on, each with its own counts.

    A process prepares a micro-batch at a time, because all images of a step take seconds and gigabytes.

    Args:
        micro_batch, has_padding: as in ``TrainBatches.micro_batches`` and ``Batch.split``.
        num_workers, prefetched: as in ``loaded``.

    Raises:
        RunFailedError: the data is broken (cause ``data``).
    """
    steps = range(first_step, len(batches))
    keys = ((step, images) for step in steps for images in batches.micro_batches(step, micro_batch))
    items = loaded(
        MicroBatches(batches, has_padding=has_padding),
        keys,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetched=prefetched,
    )
    for step in steps:
        yield list(islice(items, len(batches.micro_batches(step, micro_batch))))


def ignore_signals(worker: int) -> None:
    """Ignore a scheduler's signals, which reach all processes of a job: the training process ends its loaders."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def kill_loaders() -> None:
    """Kill the loader processes that an error has left. multiprocessing would terminate them, which they ignore, and
    wait for them."""
    for process in active_children():
        if process.daemon:
            process.kill()
