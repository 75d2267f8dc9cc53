"""What a cost study measures, as data: the report is built from this alone. Letters: R rounds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pydantic.dataclasses
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.data_config import CHECKED

FILE = "measurements.json"
DIGITS = 5  # of a timing
OURS = "aimv2"  # name of our encoder and of our objective, the reference of all ratios


@dataclass(frozen=True)
class Architecture:
    """An encoder of the size of ViT-L.

    Attributes:
        title: its name in reports.
        package: the package that defines it, as ``import`` names it.
        distribution: the same as ``pip`` names it.
        class_tokens: positions of the blocks that are no patches.
    """

    title: str
    package: str
    distribution: str
    patch_px: int
    class_tokens: int


ARCHITECTURES = {
    OURS: Architecture("AIMv2 ViT-L/14", "aimv2", "aimv2-ablations", 14, 0),
    "clip": Architecture("CLIP ViT-L/14", "open_clip", "open_clip_torch", 14, 1),
    "siglip": Architecture("SigLIP ViT-L/16", "timm", "timm", 16, 0),
    "dinov2": Architecture("DINOv2 ViT-L/14", "timm", "timm", 14, 1),
}


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Machine:
    """Where the study ran.

    Attributes:
        packages: versions by name.
        load: load average over a minute before the study, which is that of other work.
    """

    name: str
    device: Literal["cpu", "cuda"]
    threads: PositiveInt
    packages: dict[str, str]
    load: NonNegativeFloat | None


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderCost:
    """An encoder at one setting.

    Attributes:
        num_tokens: positions of the blocks per image: patches, and a class token if there is one.
        seconds: per call, of each round.
        parameter_bytes: of its weights.
        peak_bytes: the most that tensors of one call take at a time, besides the weights and the input.
        flops: of a call per image, counted by torch.
        closed_form: the same as a closed form; only for ours.
    """

    encoder: str
    image_px: PositiveInt
    num_tokens: PositiveInt
    seconds: list[PositiveFloat]
    parameters: PositiveInt
    parameter_bytes: PositiveInt
    peak_bytes: PositiveInt
    flops: PositiveInt
    closed_form: PositiveInt | None = None


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderSetting:
    """Encoders at matched patches, precision and batch, timed in turn.

    Attributes:
        product_seconds: of the first product of AIMv2's FFN, of each round.
        cpu_share: CPU seconds of this process over wall seconds and threads: below 1, other work took the rest.
    """

    patches: PositiveInt
    precision: Literal["float32", "bfloat16"]
    batch_size: PositiveInt
    product_flops: PositiveInt
    product_seconds: list[PositiveFloat]
    cpu_share: NonNegativeFloat
    encoders: list[EncoderCost]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class ObjectiveCost:
    """An objective at one scale.

    Attributes:
        seconds: per training step, of each round; none if the scale is only computed.
        peak_bytes: the most that tensors of one step take at a time, besides weights, optimizer state and batch.
        flops: per sample, forward and backward, as a closed form.
    """

    objective: str
    parameters: PositiveInt
    flops: PositiveInt
    seconds: list[PositiveFloat] = Field(default_factory=list)
    peak_bytes: NonNegativeInt = 0


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrainingSetting:
    """Objectives at one scale, timed in turn."""

    scale: str
    description: str
    batch_size: PositiveInt
    text_tokens: PositiveInt
    cpu_share: NonNegativeFloat | None
    objectives: list[ObjectiveCost]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Measurements:
    """A cost study.

    Attributes:
        command: the command that made it, for the report.
        clock: what timings are in: seconds on the wall, or CPU seconds of the process.
        depth: blocks of the encoders.
    """

    version: Literal[1] = 1
    command: str
    machine: Machine
    clock: Literal["wall", "cpu"]
    depth: PositiveInt
    encoders: list[EncoderSetting]
    training: list[TrainingSetting]


def rounded(seconds: list[float]) -> list[float]:
    """Return timings with the digits that are written."""
    return [float(f"{value:.{DIGITS}g}") for value in seconds]


def to_json(measurements: Measurements) -> str:
    """Return the content of ``measurements.json``."""
    return json.dumps(asdict(measurements), indent=1) + "\n"


def read_measurements(path: Path) -> Measurements:
    """Read ``measurements.json``.

    Raises:
        UsageError: the file is missing or broken.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}; measure first, with python -m benchmarks costs")
    try:
        return TypeAdapter(Measurements).validate_python(read_json(path))
    except (ValidationError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
