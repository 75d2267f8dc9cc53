"""Time training steps beside a matrix product, as images per second and as a share of the product's rate.

A batch is loaded once; the benchmark ``data`` times loading. The rate counts the FLOPs that the losses need: captions
without padding, pixels of patches after the prefixes, pairs that the masks let through.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError, unknown
from aimv2.config.data_config import CHECKED
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import SCALES, vit_l
from aimv2.config.run_config import RunConfig
from aimv2.cost import train_flops
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.memory.machine import keep_freed_memory, missing_for_compile, rank_memory
from aimv2.memory.setup import resolved, setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer
from benchmarks.data import describe, write_shards
from benchmarks.timing import (
    PRECISIONS,
    PRODUCT,
    Cell,
    Precision,
    Table,
    TimedOnDevice,
    interleaved,
    product,
    relative,
)

DEFAULTS = {"cpu": ["demo", "tiny", "vit_l_shape"], "cuda": ["tiny", "vit_l"]}
STEP, EAGER = "step", "eager step"
NUM_SAMPLES = 64
# FLOP/s of GPUs in matrix products without sparsity, by precision, and by the name that the driver reports. NVIDIA's
# data sheets; of the RTX 4090, with float32 accumulation, its white paper.
PEAKS = {
    "NVIDIA H200": {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "NVIDIA A100-SXM4-80GB": {"bfloat16": 312e12, "float32": 19.5e12},
    "NVIDIA A100-SXM4-40GB": {"bfloat16": 312e12, "float32": 19.5e12},
    "NVIDIA A100 80GB PCIe": {"bfloat16": 312e12, "float32": 19.5e12},
    "NVIDIA L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "NVIDIA GeForce RTX 4090": {"bfloat16": 165e12, "float32": 82.6e12},
}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class StepOptions(TimedOnDevice):
    """Which steps to time."""

    scale: str | None = Field(
        default=None,
        description="a scale, or vit_l_shape (ViT-L with 4 + 2 blocks); the default is demo, tiny and vit_l_shape,"
        " and on a GPU tiny and vit_l",
        examples=["vit_l_shape"],
    )
    objective: str = Field(default="aimv2", description=f"one of {', '.join(BUILT_IN)}")
    precisions: tuple[Precision, ...] = Field(default=("float32", "bfloat16"), description="of matrix products")
    batch_size: int = Field(default=16, gt=0, description="images per step")
    micro_batch: int | None = Field(
        default=None, gt=0, description="images computed at once; the default is as many as fit", examples=["8"]
    )
    compile: bool = Field(default=False, description="true: with compiled blocks, beside the same step without them")


def measure(options: StepOptions) -> Iterator[Table]:
    device = options.resolved_device
    if options.objective not in BUILT_IN:
        raise unknown("objective", options.objective, BUILT_IN)
    if options.compile and (missing := missing_for_compile(device)):
        raise UsageError(f"compile=true needs {missing}, which this machine lacks")
    keep_freed_memory()
    values: dict[str, Any] = {"device": device, "objective.name": options.objective, "parallel": "ddp"}
    values |= {"micro_batch": options.micro_batch} if options.micro_batch else {}
    rows = []
    scales = [options.scale] if options.scale else DEFAULTS[device]
    for scale, precision in itertools.product(scales, options.precisions):
        with tempfile.TemporaryDirectory(prefix="aimv2-benchmark-") as folder:
            config, batch = config_and_batch(config_of(scale), Path(folder), options.batch_size, values)
        rows.append(time_step(config, batch, precision, options))
    yield Table(f"training steps of {options.batch_size} images", rows)


def config_of(scale: str) -> RunConfig:
    """Return the run of a scale, or that of ``vit_l_shape``."""
    if scale == "vit_l_shape":
        config = vit_l()
        encoder, decoder = replace(config.model.encoder, depth=4), replace(config.model.decoder, depth=2)
        return replace(config, scale=scale, model=replace(config.model, encoder=encoder, decoder=decoder))
    if scale not in SCALES:
        raise unknown("scale", scale, [*SCALES, "vit_l_shape"])
    return SCALES[scale]()


def config_and_batch(
    config: RunConfig, folder: Path, batch_size: int, values: dict[str, Any]
) -> tuple[RunConfig, Batch]:
    """Write pairs with captions of 8 and of 30 words below a folder; return the run on them, with values by path, and
    its first batch."""
    write_shards(folder / "pairs", NUM_SAMPLES)
    of_data: dict[str, Any] = {
        "data.sources": (str(describe(folder)),),
        "data.cache_dir": str(folder / "cache"),
        "data.render_px": config.model.image_px,
        "budget.samples": batch_size,
        "budget.batch_size": batch_size,
    }
    config = with_attention(replaced(config, of_data | values))
    data = prepare(config.data, config.model.vocab_size)
    return config, TrainBatches(config, data.train, data.tokenizer)[0]


def time_step(config: RunConfig, batch: Batch, precision: Precision, options: StepOptions) -> dict[str, Cell]:
    """Time the step and the product in turn; return a row."""
    config = replace(config, precision=precision, compile=options.compile)
    setup = setup_of(config, rank_memory(config) // (1 + options.compile))  # the models of both steps exist together
    config, device = resolved(config, setup), config.device
    step = TrainingStep(config, batch)
    multiply, product_flops = product(config, setup.micro_batch, device, PRECISIONS[precision])
    calls: dict[str, Callable[[], object]] = {STEP: step, PRODUCT: multiply}
    if options.compile:
        calls[EAGER] = TrainingStep(replace(config, compile=False), batch)
    seconds = interleaved(calls, options.repeats)
    flops, median = useful_flops(config, batch), float(np.median(seconds[STEP]))
    product_rate_R = product_flops / seconds[PRODUCT]
    row: dict[str, Cell] = {
        "model": config.scale,
        "objective": config.objective.name,
        "precision": precision,
        "ms": 1000 * median,
        "images / s": options.batch_size / median,
        "needed, GFLOP": flops / 1e9,
        "product, GFLOP / s": float(np.median(product_rate_R)) / 1e9,
        "share of its rate": relative(flops / seconds[STEP], product_rate_R),
    }
    if device == "cuda":
        peak = PEAKS.get(torch.cuda.get_device_name(), {}).get(precision)
        row["setup"] = f"{setup.micro_batch} images" + ", recomputed" * setup.activation_checkpointing
        row["MFU"] = None if peak is None else flops / median / peak
    return row | ({"eager / compiled": relative(seconds[EAGER], seconds[STEP])} if options.compile else {})


class TrainingStep:
    """A training step on one batch as ``aimv2.training.loop`` does it, with new weights. The learning rate is 0, so
    that weights stay finite; the work is the same."""

    def __init__(self, config: RunConfig, batch: Batch) -> None:
        model = build(config).to(config.device)
        self.objective = implementation_of(objective(config.objective.name))(model, config).train()
        self._batch, self._engine = batch, Engine(self.objective, config, setup_of(config))
        self._optimizer = build_optimizer(model, config.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0

    def __call__(self) -> None:
        self._engine.backward(self._engine.micro_batches(self._batch))
        self._engine.clip_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def useful_flops(config: RunConfig, batch: Batch) -> int:
    """Return the FLOPs of a forward and a backward pass that the losses need.

    Captions have their own lengths, without the last token, which predicts nothing; only patches after the prefixes are
    projected to pixels; attention counts the pairs that the masks let through, in the encoder averaged over prefix
    lengths.
    """
    T, num_patches = batch.token_BT.shape[1], config.model.num_patches
    supervised_B = torch.bincount(batch.supervised_N // T, minlength=len(batch.image))
    total = 0
    for length, prefix_len, supervised in zip(
        batch.text_len_B.tolist(), batch.prefix_len_B.tolist(), supervised_B.tolist(), strict=True
    ):
        sample = replace(config, model=replace(config.model, max_text_tokens=max(2, length - 1)))
        parts = [
            replace(
                part,
                attention=part.useful_attention,
                products=part.products * (1 - prefix_len / num_patches if part.name == "pixel head" else 1),
            )
            for part in objective(config.objective.name).cost(sample)
        ]
        total += train_flops(parts, 1, supervised)
    return total
