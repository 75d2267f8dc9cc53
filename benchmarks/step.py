"""Time training steps beside a matrix product: by part, as images per second, and as a share of the product's rate;
and measure their memory.

The step's rate counts the FLOPs that the losses need: captions without padding, pixels of patches after the prefixes,
pairs that the masks let through. On the CPU images / s leave out the data, which loader workers prepare beside the
step. On a GPU they include it: "data" is what the GPU waits for them. Memory is the peak of a step, beyond weights and
moments. torchrun starts several ranks, which share every batch:

  torchrun --nproc-per-node 8 -m benchmarks step device=cuda scale=vit_l batch=2048
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.analysis.costs.ratios import relative
from aimv2.base.errors import UsageError
from aimv2.base.hardware import keep_freed_memory, missing_for_compile
from aimv2.config.data_config import CHECKED
from aimv2.data.batches.batch import Batch, Tally, of_step
from aimv2.data.batches.training import TrainBatches
from aimv2.memory.machine import rank_memory
from aimv2.memory.setup import resolved, setup_of
from aimv2.memory.training import Setup
from aimv2.training.loop import load_steps
from aimv2.training.world import World
from benchmarks.cards import card, peak_rate
from benchmarks.options import Precision, TimedOnDevice
from benchmarks.peak import peak_bytes
from benchmarks.ranks import launched
from benchmarks.results import Cell, Table
from benchmarks.timing import CLOCKS, interleaved
from benchmarks.training import (
    PARTS,
    PRECISIONS,
    PRODUCT,
    TrainingStep,
    batches_of,
    case_of,
    product,
    recorded,
    useful_flops,
)

DEFAULTS = {"cpu": ["demo", "tiny", "vit_l_shape"], "cuda": ["tiny", "vit_l"]}
STEP, EAGER, ALONE_STEP = "step", "eager step", "step without other ranks"
WARM_UPS = 2  # calls of ``interleaved`` that are not timed


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class StepOptions(TimedOnDevice):
    """Which steps to time."""

    scale: str | None = Field(
        default=None,
        description="a scale, or vit_l_shape (ViT-L with 4 + 2 blocks); the default is demo, tiny and vit_l_shape,"
        " and on a GPU tiny and vit_l",
        examples=["vit_l_shape"],
    )
    precision: Precision | None = Field(
        default=None, description="float32 or bfloat16; the default is both", examples=["bfloat16"]
    )
    batch: int = Field(default=16, gt=0, description="images per step, of all ranks")
    micro_batch: int | None = Field(
        default=None,
        gt=0,
        description="images that a rank computes at once; the default is as many as fit",
        examples=["64"],
    )
    parallel: Literal["auto", "ddp", "hsdp", "fsdp"] = Field(
        default="auto", description="how ranks hold the weights: auto, ddp, hsdp or fsdp"
    )
    compile: bool = Field(default=False, description="true: with compiled blocks, beside the same step without them")


def measure(options: StepOptions) -> Iterator[Table]:
    """Yield a table of all models and precisions.

    Raises:
        UsageError: a scale is unknown, blocks cannot be compiled here, or the batch is not divisible by the ranks.
    """
    device = options.found_device
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch % ranks:
        raise UsageError(f"batch={options.batch} is not divisible by {ranks} ranks")
    if options.compile and (missing := missing_for_compile(device)):
        raise UsageError(f"compile=true needs {missing}, which this machine lacks")
    keep_freed_memory()
    rows = []
    scales = [options.scale] if options.scale else DEFAULTS[device]
    precisions = [options.precision] if options.precision else list(PRECISIONS)
    with launched(device) as world:
        for scale, precision in itertools.product(scales, precisions):
            with tempfile.TemporaryDirectory(prefix="aimv2-benchmark-") as folder:
                values = {"device": device, "ranks": world.size, "parallel": options.parallel}
                values |= {"micro_batch": options.micro_batch} if options.micro_batch else {}
                batches = batches_of(case_of(scale), Path(folder) / "pairs", options.batch, values, rank=world.rank)
                rows.append(time_step(batches, precision, options, world))
        yield Table(f"training steps of {options.batch} images", rows)


def steps_of(batches: TrainBatches, setup: Setup) -> Iterator[list[Batch]]:
    """Yield the micro-batches of step after step, as the training loop loads them."""
    for parts in load_steps(batches, setup):
        yield of_step(parts, sum((part.tally for part in parts), Tally.empty(len(batches.pairs.parts))))


def time_step(batches: TrainBatches, precision: Precision, options: StepOptions, world: World) -> dict[str, Cell]:
    """Time the step and the product in turn, and measure the step's memory; return a row."""
    config = replace(batches.config, precision=precision, compile=options.compile)
    num_steps = 1 + options.compile + (world.size > 1)  # whose models exist side by side
    setup = setup_of(config, rank_memory(config) // num_steps)
    config, device = resolved(config, setup), config.device
    clock, load = CLOCKS[options.clock], partial(batches.__getitem__, 0)
    now: Callable[[], Any] = clock
    if device == "cuda":
        now, load = recorded, partial(next, steps_of(batches, setup))
    step = TrainingStep(load, config, now, world)
    multiply, product_flops = product(config, setup.micro_batch, device, PRECISIONS[precision])
    calls: dict[str, Callable[[], object]] = {STEP: step, PRODUCT: multiply}
    if options.compile:
        calls[EAGER] = TrainingStep(load, replace(config, compile=False), now, world)
    if world.size > 1 and setup.parallel == "ddp":
        calls[ALONE_STEP] = TrainingStep(load, config, now)
    seconds = interleaved(calls, options.repeats, clock=clock, slowest=lambda seconds: max(world.gather([seconds])))
    parts = {part: float(np.median(step.seconds[part][WARM_UPS:])) for part in PARTS}
    hidden = 0.0 if device == "cuda" else parts["data"]
    computing_R, flops = seconds[STEP] - hidden, useful_flops(config, batches[0])
    product_rate_R = product_flops / seconds[PRODUCT]
    row: dict[str, Cell] = {
        "model": config.scale,
        "precision": precision,
        **{f"{part}, ms": 1000 * value for part, value in parts.items()},
        "images / s": options.batch / float(np.median(computing_R)),
        f"needed{', of a rank' * (world.size > 1)}, GFLOP": flops / 1e9,
        "product, GFLOP / s": float(np.median(product_rate_R)) / 1e9,
        "share of its rate": relative(flops / computing_R, product_rate_R),
        "memory, GB": peak_bytes(step, device) / 1e9,
    }
    if device == "cuda":
        peak = peak_rate(card(), precision)
        row["setup"] = f"{setup.parallel}, {setup.micro_batch} images" + ", recomputed" * setup.activation_checkpointing
        row["MFU"] = None if peak is None else flops / float(np.median(computing_R)) / peak
    if ALONE_STEP in calls:
        row["exposed communication"] = 1 - float(np.median(seconds[ALONE_STEP]) / np.median(seconds[STEP]))
    return row | ({"eager / compiled": relative(seconds[EAGER], seconds[STEP])} if options.compile else {})
