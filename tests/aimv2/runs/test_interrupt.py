import os
import signal
import time

import pytest

from aimv2.runs.interrupt import SIGNALS, Interrupts


def send(number):
    """To this process, whose handler has run when this returns."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_at_once(number):
    with Interrupts().listening() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            send(number)
        assert interrupts.was_signalled


@pytest.mark.parametrize("number", SIGNALS)
def test_a_loop_that_defers_is_told_when_it_asks(number):
    asked = []
    with Interrupts().listening() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.deferred():
        asked += [interrupts.is_requested, send(number), interrupts.is_requested]
    assert asked == [False, None, True]


def test_a_second_ctrl_c_does_not_wait_for_the_loop():
    with Interrupts().listening() as interrupts, interrupts.deferred():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        interrupts.signal = None  # else the end of the context raises too


def test_a_repeated_sigterm_disturbs_no_clean_up():
    with Interrupts().listening():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        send(signal.SIGTERM)


def test_handlers_are_put_back_and_an_ignored_ctrl_c_stays_ignored():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with Interrupts().listening():
        assert all(signal.getsignal(number) != before[number] for number in SIGNALS)
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts().listening():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])


def test_a_deadline_counts_as_a_request_once_it_has_passed():
    interrupts = Interrupts()
    assert not interrupts.is_requested
    interrupts.until(time.monotonic() + 60)
    assert not interrupts.is_requested
    interrupts.until(time.monotonic())
    assert interrupts.is_requested
    assert interrupts.is_out_of_time
    assert not interrupts.was_signalled
    with interrupts.deferred():
        pass  # what was done in time, or not, nobody else need hear of
