"""A watchdog that ends a process whose training hangs, because its heartbeat goes on."""

import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

MIN_SECONDS = 60.0  # a shorter stall is not worth a restart


class Watchdog:
    """Ends the process if a step takes far longer than any before: all threads' tracebacks go to stderr.

    The timer of ``faulthandler`` needs no GIL, so it also fires while a collective or a system call hangs. As a
    context, it watches until the context is left.

    Args:
        factor: times the longest step so far; None watches nothing.
        warm_up_steps: first steps, which are not watched. They must include one that waits for the device.
        min_seconds: time that every step has.
    """

    def __init__(
        self,
        factor: float | None = None,
        *,
        warm_up_steps: int = 0,
        min_seconds: float = MIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._factor, self._warm_up_steps, self._min_seconds, self._clock = factor, warm_up_steps, min_seconds, clock
        self._longest, self._num_steps = 0.0, 0
        self._since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._rest()

    def step(self) -> None:
        """Count a step that has ended, and watch the next one."""
        if self._factor is None:
            return
        self._rest()
        self._since, self._num_steps = self._clock(), self._num_steps + 1
        if self._num_steps > self._warm_up_steps:
            faulthandler.dump_traceback_later(max(self._min_seconds, self._factor * self._longest), exit=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Watch nothing within the context and in the rest of its step."""
        self._rest()
        yield

    def _rest(self) -> None:
        if self._since is not None:
            faulthandler.cancel_dump_traceback_later()
            self._longest = max(self._longest, self._clock() - self._since)
            self._since = None
