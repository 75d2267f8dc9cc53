import os
import signal
from functools import partial

import pytest

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.processes import IN_FLIGHT, in_processes


def divide(numerator, number):
    if number is None:
        os.kill(os.getpid(), signal.SIGKILL)
    if not number:
        raise UsageError("zero is not allowed")
    return numerator // number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order_and_from_so_many_processes(workers):
    numbers = range(1, 4 * IN_FLIGHT)
    results, processes = zip(*in_processes(partial(divide, 720), numbers, workers, "divides"), strict=True)
    assert list(results) == [720 // number for number in numbers]
    assert len(set(processes) - {os.getpid()}) == (0 if workers == 1 else len(set(processes)))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised(workers):
    with pytest.raises(UsageError, match="zero is not allowed"):
        list(in_processes(partial(divide, 720), [1, 0, *range(1, 100)], workers, "divides"))


def test_a_killed_process_is_one_sentence():
    with pytest.raises(RunFailedError, match=r"a process that divides was killed, .* fewer workers need less"):
        list(in_processes(partial(divide, 720), [1, None, 2], 2, "divides"))
