"""Options that benchmarks share."""

import dataclasses
import shlex
from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.options import typed

PLACES = ("json", "folder", "reports_dir")  # options that change no number

Clock = Literal["wall", "cpu"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Kept:
    """Options of every benchmark."""

    json: str | None = Field(default=None, description="also keep the results in this file", examples=["FILE"])


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Timed(Kept):
    """Options of benchmarks that time calls in turn."""

    repeats: int = Field(default=10, ge=2, description="timings of each call; an interval needs 6")
    threads: int | None = Field(default=None, gt=0, description="CPU threads; the default is all cores", examples=["2"])
    clock: Clock = Field(
        default="wall", description="wall, or cpu: CPU seconds of the process and its workers, for a busy machine"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TimedOnDevice(Timed):
    """Options of benchmarks that also run on a GPU."""

    device: Device = Field(default="auto", description="auto, cpu or cuda")

    @property
    def found_device(self) -> Literal["cpu", "cuda"]:
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


def command_of(benchmark: str, options: Kept) -> str:
    """Return the command with the options that are not the defaults, but for PLACES."""
    values = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name not in PLACES
    }
    given = [typed(key, value) for key, value in values.items() if value != getattr(type(options), key)]
    return shlex.join(["python", "-m", "benchmarks", benchmark, *given])
