"""Timings of several calls in turn, and their ratios with intervals. Letters: R repeats."""

import math
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy.stats import quantile_test

from aimv2.config.arguments import checked, key_values

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MIN_SECONDS = 0.05  # a timing lasts at least this long, so that the cost of reading the clock does not matter
WIDE = 0.1  # a wider interval, relative to its ratio, gets a warning

Options = TypeVar("Options", bound="DataclassInstance")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its loader workers that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + ended.ru_utime + ended.ru_stime


CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": cpu_seconds}


def read_options(kind: type[Options], arguments: Sequence[str]) -> Options:
    """Read the options of a command line as a dataclass; invalid ones raise ``UsageError``."""
    kinds = {field.name: field.type for field in fields(kind)}
    given = key_values(arguments, kinds)
    return kind(**{key: checked(key, kinds[key], value) for key, value in given.items()})


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    clock: Callable[[], float],
    min_seconds: float = MIN_SECONDS,
) -> dict[str, np.ndarray]:
    """Time calls in turn: seconds per call, float64 [R] each.

    Every repeat times each call once, starting with another one each time, so that a machine that slows down affects
    all calls alike.

    Args:
        clock: returns seconds, after waiting for the device.
        min_seconds: duration of a timing, reached by repeating the call.
    """

    def turn(name: str, num_calls: int) -> float:
        start = clock()
        for _ in range(num_calls):
            calls[name]()
        return (clock() - start) / num_calls

    names = list(calls)
    for name in names:
        turn(name, 1)  # the first call allocates and may select algorithms
    num_calls = {name: max(1, math.ceil(min_seconds / max(turn(name, 1), 1e-9))) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(turn(name, num_calls[name]))
    return {name: np.array(timings) for name, timings in seconds.items()}


def ratio(theirs_R: np.ndarray, ours_R: np.ndarray) -> tuple[float, float, float]:
    """Return the median of theirs over ours, repeat by repeat, and the bounds of its 95 % interval by order statistics,
    which are NaN with fewer than six repeats."""
    ratio_R = theirs_R / ours_R
    interval: Any = quantile_test(ratio_R, p=0.5).confidence_interval(0.95)  # scipy-stubs call it a float
    return float(np.median(ratio_R)), float(interval.low), float(interval.high)


def uncertain(name: str, theirs_R: np.ndarray, ours_R: np.ndarray) -> str | None:
    """Return a warning if the interval of the ratio is wider than a tenth of it, or unknown."""
    median, low, high = ratio(theirs_R, ours_R)
    if high - low <= WIDE * median:
        return None
    repeats = len(ours_R)
    return (
        f"warning: {name} / ours is uncertain: its interval is wider than {WIDE:.0%} of the ratio, or unknown,"
        f" after {repeats} repeats; stop other work on the machine, or use repeats={max(20, 2 * repeats)}"
    )
