import os
import signal
import threading
from functools import partial

import pytest

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.processes import IN_FLIGHT, in_processes, in_threads


def divide(numerator, number):
    if number is None:
        os.kill(os.getpid(), signal.SIGKILL)
    if not number:
        raise UsageError("zero is not allowed")
    return numerator // number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order_and_from_so_many_processes_and_an_error_of_a_task_is_raised(workers):
    numbers = range(1, 4 * IN_FLIGHT)
    results, processes = zip(*in_processes(partial(divide, 720), numbers, workers, "divides"), strict=True)
    assert list(results) == [720 // number for number in numbers]
    assert len(set(processes) - {os.getpid()}) == (0 if workers == 1 else len(set(processes)))

    with pytest.raises(UsageError, match="zero is not allowed"):
        list(in_processes(partial(divide, 720), [1, 0, *range(1, 100)], workers, "divides"))


def test_a_killed_process_is_one_sentence():
    with pytest.raises(RunFailedError, match=r"a process that divides was killed, .* fewer workers need less"):
        list(in_processes(partial(divide, 720), [1, None, 2], 2, "divides"))


def test_threads_give_results_in_order_and_work_at_the_same_time():
    for threads in (1, 3):
        found = list(in_threads(lambda number: (number * 7) % 11, range(50), threads))
        assert found == [number * 7 % 11 for number in range(50)]
    together = threading.Barrier(3)
    assert len(set(in_threads(lambda _: (together.wait(60), threading.get_ident())[1], range(3), 3))) == 3


def test_an_error_in_a_thread_is_raised_and_ends_the_rest():
    begun = []

    def fail(number):
        begun.append(number)
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        list(in_threads(fail, range(1000), 2))
    assert len(begun) < 1000
