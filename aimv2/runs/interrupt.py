"""Being asked to stop: by a signal, by somebody who says so in a file, or because the time is nearly up."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

ASK_SECONDS = 2.0  # between two looks at what lies on a disk

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interrupts:
    """Whether this process was asked to stop.

    A signal raises KeyboardInterrupt at once, but for the training loop (``deferred``), which asks after each step and
    keeps a checkpoint first. Whoever asks to stop may ask again and again; only a second Ctrl-C is taken as impatience.

    Attributes:
        signal: the first of SIGNALS that has come, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._is_deferring = False
        self._deadline = math.inf
        self._is_told: Callable[[], bool] = lambda: False
        self._asked_at = -math.inf
        self._was_told = False

    @property
    def was_signalled(self) -> bool:
        return self.signal is not None

    @property
    def is_out_of_time(self) -> bool:
        """Whether the deadline has passed. No clock rings: a loop that can stop has to ask."""
        return time.monotonic() >= self._deadline

    @property
    def is_requested(self) -> bool:
        return self.was_signalled or self.is_out_of_time or self._ask()

    def when(self, is_told: Callable[[], bool]) -> None:
        """Count as requested from when this is true; it is asked every ASK_SECONDS at most."""
        self._is_told, self._asked_at, self._was_told = is_told, -math.inf, False

    def _ask(self) -> bool:
        if not self._was_told and time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._asked_at, self._was_told = time.monotonic(), self._is_told()
        return self._was_told

    def until(self, deadline: float) -> None:
        """Count as requested from then on, in seconds of ``time.monotonic``."""
        self._deadline = deadline

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Handle the signals within the context. A process that ignores SIGINT, as workers do, goes on ignoring it."""
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the context a signal is only remembered.

        Raises:
            KeyboardInterrupt: at the end, for a signal that came and that nobody asked about.
        """
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False
        if self.was_signalled:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: object) -> None:
        is_first = not self.was_signalled
        if is_first:
            self.signal = number
        # A repeated SIGTERM must not tear up the clean-up that the first has begun.
        acts_at_once = not self._is_deferring if is_first else number == signal.SIGINT
        if acts_at_once:
            raise KeyboardInterrupt
