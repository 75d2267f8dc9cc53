"""What benchmarks share with the command: their options, and tables of results as Markdown."""

import dataclasses
import shlex
import sys
from importlib import metadata
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.arguments import typed
from aimv2.config.data_config import CHECKED
from benchmarks.timing import Clock, Median

PACKAGES = ("torch", "numpy", "timm", "webdataset", "torchvision")

Cell = Median | str | int | float | None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Timed:
    """Options of benchmarks that time calls in turn."""

    repeats: int = Field(default=10, ge=2, description="timings of each call; an interval needs 6")
    threads: int | None = Field(default=None, gt=0, description="CPU threads; the default is all cores", examples=["2"])
    clock: Clock = Field(
        default="wall", description="wall, or cpu: CPU seconds of the process and its workers, for a busy machine"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TimedOnDevice(Timed):
    """Options of benchmarks that also run on a GPU."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda")

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device to use; ``auto`` is CUDA where torch finds it.

        Raises:
            UsageError: there is no CUDA device, or the clock does not see its work.
        """
        has_cuda = torch.cuda.is_available()
        if self.device == "cuda" and not has_cuda:
            raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
        if self.device == "cpu" or not has_cuda:
            return "cpu"
        if self.clock == "cpu":
            raise UsageError("clock=cpu does not see the work of a CUDA device; use clock=wall or device=cpu")
        return "cuda"


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


def command_of(benchmark: str, options: object) -> str:
    """Return the command with the options that are not the defaults."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    given = [typed(key, value) for key, value in values.items() if value != getattr(type(options), key)]
    return shlex.join(["python", "-m", "benchmarks", benchmark, *given])


def versions() -> list[str]:
    """Return those of PACKAGES that are imported, each with its version."""
    return [f"{name} {metadata.version(name)}" for name in PACKAGES if name in sys.modules]
