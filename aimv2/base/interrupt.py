"""Interrupts: requests to stop, by a signal or by ``manage.py cancel``."""

import contextlib
import math
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
ACKNOWLEDGEMENT = "stopping after this step, with a checkpoint; press Ctrl-C again to end now, without one\n"
CLEAR_LINE = "\r\x1b[2K"  # of a terminal, where a progress bar is redrawn on the next line


class Interrupts:
    """The requests to stop that this process has received.

    A signal raises KeyboardInterrupt at once, except within ``deferred``: the training loop checks ``is_requested``
    after each step and saves a checkpoint before it stops. Signals may repeat; only a second Ctrl-C cuts that short.
    If the first signal is a Ctrl-C and is deferred, a line on stderr says so.

    Attributes:
        signal: the first of SIGNALS that was received, or None.
    """

    def __init__(self, *, poll_seconds: float = 10.0, acknowledges: bool = True) -> None:
        self.signal: int | None = None
        self._is_deferring = False
        self._poll_seconds, self._acknowledges = poll_seconds, acknowledges
        self.also_when(lambda: False)

    @property
    def was_signalled(self) -> bool:
        return self.signal is not None

    @property
    def is_requested(self) -> bool:
        """True after a signal, or once the predicate of ``also_when`` was true."""
        return self.was_signalled or self._poll()

    def also_when(self, predicate: Callable[[], bool]) -> None:
        """Count a true predicate as a request too. It replaces the predicate of an earlier call."""
        self._predicate, self._polled_at, self._was_true = predicate, -math.inf, False

    def _poll(self) -> bool:
        if not self._was_true and time.monotonic() - self._polled_at >= self._poll_seconds:
            self._polled_at, self._was_true = time.monotonic(), self._predicate()
        return self._was_true

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Handle the signals within the context. One that the process ignores stays ignored: workers ignore SIGINT, and
        nohup has SIGHUP ignored."""
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in handled}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only record signals within the context, and raise KeyboardInterrupt at its end if there was one."""
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False
        if self.was_signalled:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let signals raise at once within the context, which is within ``deferred``."""
        self._is_deferring = False
        try:
            if self.was_signalled:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_deferring = True

    def _handle(self, number: int, frame: object) -> None:
        # A repeated SIGTERM must not interrupt the clean-up that the first one started.
        raises = number == signal.SIGINT if self.was_signalled else not self._is_deferring
        self.signal = self.signal or number
        if number == signal.SIGHUP:
            _leave_terminal()
        elif number == signal.SIGINT and self._acknowledges and not raises:
            with contextlib.suppress(OSError):  # there is no such output
                os.write(2, f"{CLEAR_LINE * os.isatty(2)}{ACKNOWLEDGEMENT}".encode())
        if raises:
            raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Discard all further output to the terminal. It was closed or soon will be, and then a write to it is an OSError,
    which would cut the clean-up short."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # there is no such output
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):  # a closed terminal is no tty any more, but still this
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
