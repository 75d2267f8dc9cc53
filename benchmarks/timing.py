"""Timings of several calls in turn, and their ratios. Letters: R repeats."""

import math
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import process_time
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch.utils.benchmark import timer

from aimv2.config.run_config import RunConfig
from aimv2.training.device import product_shape

Clock = Literal["wall", "cpu"]
Precision = Literal["float32", "bfloat16"]

MIN_SECONDS = 0.05  # a timing lasts at least this long, so that the cost of reading the clock does not matter
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PRODUCT = "torch.mm"  # the encoder's first FFN product, which calls are compared with


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended, such as loader workers."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + ended.ru_utime + ended.ru_stime


CLOCKS: dict[Clock, Callable[[], float]] = {"wall": timer, "cpu": cpu_seconds}  # the timer waits for a CUDA device


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, *, clock: Callable[[], float]
) -> dict[str, np.ndarray]:
    """Time calls in turn: seconds per call, float64 [R] each.

    Every repeat times each call once, starting with another one each time, so that a machine that slows down affects
    all calls alike.

    Args:
        clock: returns seconds, after waiting for the device.
    """

    def turn(name: str, num_calls: int) -> float:
        start = clock()
        for _ in range(num_calls):
            calls[name]()
        return (clock() - start) / num_calls

    names = list(calls)
    for name in names:
        turn(name, 1)  # the first call allocates and may select algorithms
    num_calls = {name: max(1, math.ceil(MIN_SECONDS / max(turn(name, 1), 1e-9))) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(turn(name, num_calls[name]))
    return {name: np.array(timings) for name, timings in seconds.items()}


@dataclass(frozen=True)
class Median:
    """A median over repeats, and the ends of its interval: order statistics, of at least 95 %, NaN below six."""

    median: float
    low: float
    high: float


def relative(theirs_R: ArrayLike, ours_R: ArrayLike) -> Median:
    """Return the median ratio of numbers that were measured in the same repeats."""
    ratio_R = np.divide(theirs_R, ours_R)
    interval: Any = stats.quantile_test(ratio_R, p=0.5).confidence_interval(0.95)  # scipy-stubs call it a float
    return Median(float(np.median(ratio_R)), float(interval.low), float(interval.high))


def product(config: RunConfig, batch_size: int, device: str, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Return the first product of the encoder's FFN as a call, and its FLOPs."""
    rows, width, columns = shape = product_shape(config, batch_size)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, width, generator=generator).to(device, dtype) for size in (rows, columns))
    return lambda: torch.mm(left, right.T), 2 * math.prod(shape)  # transposed as in a linear layer
