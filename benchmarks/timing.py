"""Timings of several calls in turn. Letters: R repeats."""

import math
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import process_time
from typing import TypeVar

import numpy as np
import torch
from torch.utils.benchmark import timer

from aimv2.memory.machine import num_cores
from benchmarks.options import Clock

Name = TypeVar("Name")

MIN_SECONDS = 0.05  # a timing lasts at least this long, so that the cost of reading the clock does not matter


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended, such as loader workers."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + ended.ru_utime + ended.ru_stime


CLOCKS: dict[Clock, Callable[[], float]] = {"wall": timer, "cpu": cpu_seconds}  # the timer waits for a CUDA device


def interleaved(
    calls: Mapping[Name, Callable[[], object]],
    repeats: int,
    *,
    clock: Callable[[], float],
    min_seconds: float = MIN_SECONDS,
    slowest: Callable[[float], float] = float,
) -> dict[Name, np.ndarray]:
    """Time calls in turn: seconds per call, float64 [R] each.

    Every repeat times each call once, starting with another one each time, so that a machine that slows down affects
    all calls alike.

    Args:
        clock: returns seconds, after waiting for the device.
        min_seconds: duration of a timing, reached by repeating the call.
        slowest: returns the largest of the values that the ranks give. So all repeat a call equally often, as its
            collectives need.
    """

    def turn(name: Name, num_calls: int) -> float:
        start = clock()
        for _ in range(num_calls):
            calls[name]()
        return (clock() - start) / num_calls

    names = list(calls)
    for name in names:
        turn(name, 1)  # the first call allocates and may select algorithms
    num_calls = {name: max(1, math.ceil(min_seconds / max(slowest(turn(name, 1)), 1e-9))) for name in names}
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(turn(name, num_calls[name]))
    return {name: np.array(timings) for name, timings in seconds.items()}


class CpuShare:
    """Measures the share of its threads' time that this process gets, from its construction on."""

    def __init__(self) -> None:
        self._start = (timer(), process_time())

    def read(self) -> float:
        wall, cpu = timer() - self._start[0], process_time() - self._start[1]
        return round(cpu / wall / torch.get_num_threads(), 3)


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Let torch use this many threads, or as many as this process has cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or num_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
