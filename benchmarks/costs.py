"""Measure what AIMv2's encoder costs beside those of CLIP, SigLIP and DINOv2, all of the size of ViT-L and randomly
initialised, at matched tokens; and what a training step of every objective costs.

Writes reports/costs/measurements.json, of which python analysis/report.py costs makes the report. It takes about 12
minutes on two free cores and 8 GB of memory.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.analysis.costs.measurements import (
    ARCHITECTURES,
    FILE,
    OURS,
    EncoderCost,
    EncoderSetting,
    Machine,
    Measurements,
    rounded,
    to_json,
)
from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder, write_text
from aimv2.base.hardware import hardware
from aimv2.config.data_config import CHECKED
from aimv2.cost.modules import encoder_cost
from aimv2.cost.parts import forward_flops
from benchmarks.cost_encoders import BUILD, DEPTH, counted_flops, require_packages
from benchmarks.cost_training import Scale, measure_objectives, scales
from benchmarks.options import Precision, TimedOnDevice, command_of
from benchmarks.peak import peak_bytes
from benchmarks.results import Cell, Table
from benchmarks.timing import CLOCKS, CpuShare, interleaved
from benchmarks.training import PRECISIONS, PRODUCT, encoder_config, product

SLUG = "costs"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class CostOptions(TimedOnDevice):
    """What to measure."""

    models: tuple[Literal["aimv2", "clip", "siglip", "dinov2"], ...] = Field(
        default=("aimv2", "clip", "siglip", "dinov2"), description=f"encoders; {OURS} is always one of them"
    )
    patches: tuple[int, ...] = Field(default=(256, 576), description="patches per image, square numbers")
    precisions: tuple[Precision, ...] = Field(
        default=("float32", "bfloat16"), description="precisions of weights and activations"
    )
    batch: int = Field(default=4, ge=2, description="images of the larger batch; the smaller is 1")
    repeats: int = Field(
        default=16,
        ge=2,
        description="timings of each encoder with one image, and of each objective; an interval needs 6",
    )
    batch_repeats: int = Field(default=6, ge=2, description="timings of each encoder with the larger batch")
    train_batch: int = Field(
        default=2, ge=0, description="samples of a training step in the proportions of ViT-L; 0 times none"
    )
    depth: int = Field(default=DEPTH, gt=0, description="blocks of the encoders; fewer for a quick look")
    reports_dir: str = Field(default="reports", description="the folder of reports")


def measure(options: CostOptions) -> Iterator[Table]:
    """Write the measurements, and yield where they are.

    Raises:
        UsageError: an option has a value that is not allowed, or a package to compare with is missing.
    """
    writable_folder(options.reports_dir, "reports_dir")
    found = measured(options, scales(options.train_batch))
    path = Path(options.reports_dir, SLUG, FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, to_json(found))
    counts: dict[str, Cell] = {"settings of encoders": len(found.encoders), "scales of objectives": len(found.training)}
    yield Table("measurements", [{"file": str(path), **counts}], f"The report: python analysis/report.py {SLUG}")


def measured(options: CostOptions, scales: list[Scale]) -> Measurements:
    """Measure encoders, and objectives at these scales.

    Raises:
        UsageError: as in ``measure``.
    """
    for number in options.patches:
        if math.isqrt(number) ** 2 != number or not number:
            raise UsageError(f"patches={number} is not the square of a number of patches per side, such as 256 or 576")
    if OURS not in options.models:
        raise UsageError(f"models=[{','.join(options.models)}] has no {OURS}, with which others are compared; add it")
    require_packages(options.models)
    device, clock = options.found_device, CLOCKS[options.clock]
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    packages = ["torch", *dict.fromkeys(ARCHITECTURES[name].distribution for name in options.models if name != OURS)]
    return Measurements(
        command=command_of(SLUG, options),
        clock=options.clock,
        depth=options.depth,
        encoders=list(measure_encoders(options, device, clock)),
        training=[measure_objectives(scale, options.repeats, device, clock) for scale in scales],
        machine=Machine(
            name=hardware(device),
            device=device,
            threads=torch.get_num_threads(),
            packages={name: metadata.version(name) for name in packages},
            load=load,
        ),
    )


def measure_encoders(
    options: CostOptions, device: Literal["cpu", "cuda"], clock: Callable[[], float]
) -> Iterator[EncoderSetting]:
    """Measure encoders setting by setting. All encoders of a resolution are in memory together."""
    for patches in options.patches:
        sizes: dict[str, int] = {name: math.isqrt(patches) * ARCHITECTURES[name].patch_px for name in options.models}
        models = {name: BUILD[name](px, options.depth).eval() for name, px in sizes.items()}
        flops = {name: counted_flops(name, px, options.depth) for name, px in sizes.items()}
        config = encoder_config("vit_l", options.depth, sizes[OURS])
        for precision in options.precisions:
            for batch_size, repeats in {1: options.repeats, options.batch: options.batch_repeats}.items():
                print(f"encoders, {patches} patches, {precision}, batch {batch_size}", file=sys.stderr, flush=True)
                dtype = PRECISIONS[precision]
                calls: dict[str, Callable[[], object]] = {
                    name: partial(model.to(device, dtype), torch.randn(batch_size, 3, px, px).to(device, dtype))
                    for (name, model), px in zip(models.items(), sizes.values(), strict=True)
                }
                calls[PRODUCT], product_flops = product(config, batch_size, device, dtype)
                with torch.inference_mode():
                    share = CpuShare()
                    seconds = interleaved(calls, repeats, clock=clock, min_seconds=0)
                    cpu_share = share.read()
                    peaks = {name: peak_bytes(calls[name], device) for name in models}
                yield EncoderSetting(
                    patches=patches,
                    precision=precision,
                    batch_size=batch_size,
                    product_flops=product_flops,
                    product_seconds=rounded(seconds[PRODUCT].tolist()),
                    cpu_share=cpu_share,
                    encoders=[
                        EncoderCost(
                            encoder=name,
                            image_px=sizes[name],
                            num_tokens=patches + ARCHITECTURES[name].class_tokens,
                            seconds=rounded(seconds[name].tolist()),
                            parameters=sum(weight.numel() for weight in model.parameters()),
                            parameter_bytes=sum(weight.nbytes for weight in model.parameters()),
                            peak_bytes=peaks[name],
                            flops=flops[name],
                            closed_form=forward_flops([encoder_cost(config)], 1, 0) if name == OURS else None,
                        )
                        for name, model in models.items()
                    ],
                )
