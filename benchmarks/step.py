"""Time training steps of three models beside a matrix product: by part, as images per second, and as a share of the
product's rate; and measure their memory.

The step's rate counts the FLOPs that the losses need: captions without padding, pixels of patches after the prefixes,
pairs that the masks let through. Images / s leave out the data, which loader workers prepare beside the step. Memory is
the peak of a step, beyond weights and moments.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.base.hardware import missing_for_compile
from aimv2.base.heap import keep_freed_memory
from aimv2.config.data_config import CHECKED
from aimv2.data.batches.training import TrainBatches
from analysis.costs.ratios import relative
from benchmarks.options import Precision, Timed
from benchmarks.peak import peak_bytes
from benchmarks.results import Cell, Table
from benchmarks.timing import CLOCKS, interleaved
from benchmarks.training import (
    CASES,
    PARTS,
    PRECISIONS,
    PRODUCT,
    TrainingStep,
    batches_of,
    product,
    useful_flops,
)

STEP, EAGER = "step", "eager step"
WARM_UPS = 2  # calls of ``interleaved`` that are not timed


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class StepOptions(Timed):
    """Which steps to time."""

    model: Literal["demo", "tiny", "vit_l_shape"] | None = Field(
        default=None,
        description="demo, tiny or vit_l_shape (ViT-L with 4 + 2 blocks); the default is all",
        examples=["vit_l_shape"],
    )
    precision: Precision | None = Field(
        default=None, description="float32 or bfloat16; the default is both", examples=["bfloat16"]
    )
    batch: int = Field(default=16, gt=0, description="images per step")
    compile: bool = Field(default=False, description="true: with compiled blocks, beside the same step without them")


def measure(options: StepOptions) -> Iterator[Table]:
    """Yield a table of all models and precisions.

    Raises:
        UsageError: blocks cannot be compiled here.
    """
    if options.compile and (missing := missing_for_compile("cpu")):
        raise UsageError(f"compile=true needs {missing}, which this machine lacks")
    keep_freed_memory()
    rows = []
    models = [options.model] if options.model else list(CASES)
    precisions = [options.precision] if options.precision else list(PRECISIONS)
    for model, precision in itertools.product(models, precisions):
        with tempfile.TemporaryDirectory(prefix="aimv2-benchmark-") as folder:
            batches = batches_of(CASES[model](), Path(folder) / "pairs", options.batch)
            rows.append(time_step(batches, precision, options))
    yield Table(f"training steps of {options.batch} images", rows)


def time_step(batches: TrainBatches, precision: Precision, options: StepOptions) -> dict[str, Cell]:
    """Time the step and the product in turn, and measure the step's memory; return a row."""
    config = replace(batches.config, precision=precision, compile=options.compile)
    batch, clock = batches[0], CLOCKS[options.clock]
    step = TrainingStep(lambda: batches[0], config, clock)
    multiply, product_flops = product(config, options.batch, "cpu", PRECISIONS[precision])
    calls: dict[str, Callable[[], object]] = {STEP: step, PRODUCT: multiply}
    if options.compile:
        calls[EAGER] = TrainingStep(lambda: batches[0], replace(config, compile=False), clock)
    seconds = interleaved(calls, options.repeats, clock=clock)
    parts = {part: float(np.median(step.seconds[part][WARM_UPS:])) for part in PARTS}
    computing_R, flops = seconds[STEP] - parts["data"], useful_flops(config, batch)
    product_rate_R = product_flops / seconds[PRODUCT]
    row: dict[str, Cell] = {
        "model": config.scale,
        "precision": precision,
        **{f"{part}, ms": 1000 * value for part, value in parts.items()},
        "images / s": options.batch / float(np.median(computing_R)),
        "needed, GFLOP": flops / 1e9,
        "product, GFLOP / s": float(np.median(product_rate_R)) / 1e9,
        "share of its rate": relative(flops / computing_R, product_rate_R),
        "memory, GB": peak_bytes(step) / 1e9,
    }
    return row | ({"eager / compiled": relative(seconds[EAGER], seconds[STEP])} if options.compile else {})
