"""Timings of several calls in turn, their options, and tables of results as Markdown. Letters: R repeats."""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy import stats
from torch.utils.benchmark import timer

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig

Precision = Literal["float32", "bfloat16"]

MIN_SECONDS = 0.05  # a timing lasts at least this long, so that the cost of reading the clock does not matter
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PACKAGES = ("torch", "numpy", "timm", "webdataset", "torchvision")  # whose versions are printed
PRODUCT = "torch.mm"  # the encoder's first FFN product, which calls are compared with


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, *, clock: Callable[[], float] = timer
) -> dict[str, np.ndarray]:
    """Time calls in turn: seconds per call, float64 [R] each. Every repeat times each call once, starting with another
    one each time, so that a machine that slows down affects all alike. ``clock`` returns seconds, after waiting for the
    device."""

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


@dataclasses.dataclass(frozen=True)
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
    """Return the first product of the encoder's FFN, gate and up together, as a call, and its FLOPs."""
    encoder = config.model.encoder
    rows, width, columns = shape = batch_size * config.model.num_patches, encoder.width, 2 * encoder.ffn_hidden
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, width, generator=generator).to(device, dtype) for size in (rows, columns))
    return lambda: torch.mm(left, right.T), 2 * math.prod(shape)  # transposed as in a linear layer


Cell = Median | str | int | float | None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Timed:
    """Options of benchmarks that time calls in turn."""

    repeats: int = Field(default=10, ge=1, description="timings of each call; an interval needs 6")
    threads: int | None = Field(default=None, gt=0, description="CPU threads; the default is all cores", examples=["2"])


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TimedOnDevice(Timed):
    """Options of benchmarks that also run on a GPU."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda")

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device to use; ``auto`` is CUDA where torch finds it."""
        has_cuda = torch.cuda.is_available()
        if self.device == "cuda" and not has_cuda:
            raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
        return "cpu" if self.device == "cpu" or not has_cuda else "cuda"


@dataclasses.dataclass
class Table:
    """Rows of a benchmark. All rows have the same columns; the first names the row."""

    title: str
    rows: list[dict[str, Cell]]

    def to_markdown(self) -> str:
        columns = list(self.rows[0])
        lines = [columns, ["---"] * len(columns)]
        lines += [[cell_text(row[column]) for column in columns] for row in self.rows]
        return "\n".join([f"**{self.title}**\n", *(f"| {' | '.join(line)} |" for line in lines)])


def cell_text(cell: Cell) -> str:
    """Return a cell as text: numbers with four digits, medians with their intervals."""
    match cell:
        case None:
            return ""
        case str():
            return cell
        case Median():
            interval = "" if np.isnan(cell.low) else f" [{cell_text(cell.low)}, {cell_text(cell.high)}]"
            return cell_text(cell.median) + interval
    return f"{cell:,.0f}" if isinstance(cell, int) or abs(cell) >= 1000 else f"{cell:.4g}"


def versions() -> list[str]:
    """Return those of PACKAGES that are imported, each with its version."""
    return [f"{name} {metadata.version(name)}" for name in PACKAGES if name in sys.modules]
