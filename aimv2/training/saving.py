"""When checkpoints are saved, and how training goes on while they are written."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Self

import torch
from torch import nn

from aimv2.data.batches.tally import Tally
from aimv2.training.world import ALONE, World, is_of_all_ranks

Save = Callable[[nn.Module, torch.optim.Optimizer, int, Tally], "Future[None]"]
SAVE_INTERVAL = 99  # times the seconds for which the last save stalled training


class SaveTimer:
    """Says when the next checkpoint is due, so that training is stalled for at most 1 % of the time.

    The interval between two saves is ``every_seconds``, or 99 times as long as the last stall if that is more.
    """

    def __init__(self, every_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_seconds, self._clock = every_seconds, clock
        self._ended, self._cost = clock(), 0.0

    @property
    def is_due(self) -> bool:
        return self._clock() - self._ended >= max(self._every_seconds, SAVE_INTERVAL * self._cost)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure a stall."""
        started = self._clock()
        yield
        self._ended = self._clock()
        self._cost = self._ended - started


class Saver:
    """Saves checkpoints; at most one is written at a time. As a context, it waits for the last one at the end.

    After an error of one of several ranks it does not: all ranks write a checkpoint together, and the others learn of
    the error only when the context has ended. ``wait`` is for later.

    A checkpoint that cannot be written is a warning, and the next one is tried at its time.

    Args:
        save: copies the state, and writes it in the background (``aimv2.training.checkpoint.save``); None saves
            nothing. All ranks call it at the same steps.
    """

    def __init__(self, save: Save | None = None, timer: SaveTimer | None = None, world: World = ALONE) -> None:
        self._save, self._timer, self._world = save, timer or SaveTimer(), world
        self._writing: Future[None] | None = None
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._world.size == 1 or error is None or is_of_all_ranks(error):
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written or has failed."""
        if self._writing is not None:
            # The other ranks may have ended, and whatever has failed here is already being raised.
            with contextlib.suppress(Exception):
                self._writing.result()

    @property
    def is_due(self) -> bool:
        """True on rank 0 when its clock says so and no checkpoint is being written; the other ranks follow it."""
        is_idle = self._writing is None or self._writing.done()
        return self._save is not None and self._world.rank == 0 and is_idle and self._timer.is_due

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, shown: Tally) -> None:
        """Save a checkpoint, once the previous one is written."""
        if self._save is None:
            return
        with self._timer.saving():
            try:
                self.finish()
            except OSError as error:
                print(f"no checkpoint at step {self._step}, training goes on: {error}", file=sys.stderr)
            self._writing, self._step = self._save(model, optimizer, step, shown), step

    def finish(self) -> None:
        """Wait until the checkpoint is written.

        Raises:
            OSError: it cannot be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
