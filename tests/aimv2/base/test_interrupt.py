"""Signals and predicates that interrupt a process."""

import os
import signal
import subprocess
import sys

import pytest

from aimv2.base.interrupt import ACKNOWLEDGEMENT, SIGNALS, Interrupts

# SIGHUP discards output to a terminal; capfd keeps that of the test run, which may go to one.
pytestmark = pytest.mark.usefixtures("capfd")


def send(number):
    """Raise a signal in this process; its handler has run when this returns."""
    signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_raises_at_once(number):
    with Interrupts().listening() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            send(number)
        assert interrupts.was_signalled


@pytest.mark.parametrize("number", SIGNALS)
def test_deferred_signal_is_requested_and_raises_at_the_end(number):
    requested = []
    with Interrupts().listening() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.deferred():
        requested += [interrupts.is_requested, send(number), interrupts.is_requested]
    assert requested == [False, None, True]


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_raises_at_once_within_deferred(number):
    with Interrupts().listening() as interrupts, interrupts.deferred():
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            send(number)
        interrupts.signal = None  # else the end of the context raises too


def test_signal_from_before_raises_at_the_start_and_deferral_goes_on():
    with Interrupts().listening() as interrupts, interrupts.deferred():
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            pytest.fail("the context was entered")
        interrupts.signal = None
        send(signal.SIGTERM)
        interrupts.signal = None  # else the end of the context raises


def test_second_ctrl_c_raises_while_deferred():
    with Interrupts().listening() as interrupts, interrupts.deferred():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        interrupts.signal = None  # else the end of the context raises too


ACKNOWLEDGED = """
import sys, time
from aimv2.base.interrupt import Interrupts
try:
    with Interrupts(acknowledges=sys.argv[1] == "True").listening() as interrupts, interrupts.deferred():
        print("ready", flush=True)
        while not interrupts.was_signalled:
            time.sleep(0.01)
        print("requested", flush=True)
        while True:
            time.sleep(0.01)
except KeyboardInterrupt:
    pass
"""


@pytest.fixture
def deferring():
    """Start a process that defers signals for ever, and wait until it is ready."""
    processes = []

    def start(*, acknowledges=True):
        command = [sys.executable, "-c", ACKNOWLEDGED, str(acknowledges)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_only_the_first_ctrl_c_is_acknowledged_and_the_second_ends_the_work(deferring):
    process = deferring()
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == ACKNOWLEDGEMENT
    assert process.stdout.readline() == "requested\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""


@pytest.mark.parametrize(("first", "acknowledges"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_no_other_signal_is_acknowledged_and_none_where_another_process_does(deferring, first, acknowledges):
    process = deferring(acknowledges=acknowledges)
    process.send_signal(first)
    assert process.stdout.readline() == "requested\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""


def test_repeated_sigterm_does_not_interrupt_clean_up():
    with Interrupts().listening():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        send(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_listening_restores_handlers_and_leaves_an_ignored_signal_ignored(number):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with Interrupts().listening():
        assert all(signal.getsignal(number) != before[number] for number in SIGNALS)
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts().listening():
            send(number)
    finally:
        signal.signal(number, before[number])


def test_predicate_is_a_request_once_true_and_is_polled_no_more():
    values = iter([False, True])
    interrupts = Interrupts(poll_seconds=0)
    interrupts.also_when(lambda: next(values))
    assert [interrupts.is_requested for _ in range(4)] == [False, True, True, True]
    interrupts.also_when(lambda: False)
    assert not interrupts.is_requested


CLEAN_UP = """
import os, pathlib, sys
from aimv2.base.interrupt import Interrupts
os.login_tty(int(sys.argv[1]))
try:
    with Interrupts().listening():
        print("ready", flush=True)
        while True:
            pass
except KeyboardInterrupt:
    try:
        print("interrupted", flush=True)
        print("interrupted", file=sys.stderr, flush=True)
    finally:
        pathlib.Path(sys.argv[2]).write_text("cleaned up")
"""


def test_a_clean_up_after_the_terminal_was_closed_can_print(tmp_path):
    master, slave = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", CLEAN_UP, str(slave), str(tmp_path / "end")], pass_fds=[slave])
    os.close(slave)
    assert b"ready" in os.read(master, 1000)
    os.close(master)
    assert process.wait() == 0
    assert (tmp_path / "end").read_text() == "cleaned up"


def test_sighup_leaves_output_to_a_file(tmp_path):
    script = (
        "import signal; from aimv2.base.interrupt import Interrupts\n"
        "try:\n with Interrupts().listening(): signal.raise_signal(signal.SIGHUP)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
