"""Training steps on made-up pairs: the models that are timed, their data, and what a step needs. Letters: B images."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from aimv2.base.errors import unknown
from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import SCALES, demo, tiny, vit_l
from aimv2.config.run_config import RunConfig
from aimv2.cost.parts import train_flops
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.memory import setup_of
from aimv2.model.network import build
from aimv2.request.resolve import with_attention
from aimv2.spec.objectives import objective
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer
from aimv2.training.rate import product_shape
from benchmarks.options import Precision
from benchmarks.synthetic import PHOTOGRAPHS, SCENES, Pictures, describe, write_shards

NUM_SAMPLES = 64
PARTS = ("data", "forward", "backward", "optimizer")
PRECISIONS: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PRODUCT = "torch.mm"  # the encoder's first FFN product, which calls are compared with


class Case(NamedTuple):
    """A model, and the pictures that it is trained on."""

    config: RunConfig
    pictures: Pictures


def vit_l_shape() -> RunConfig:
    """Return ViT-L with 4 blocks in the encoder and 2 in the decoder."""
    config = vit_l()
    model = config.model
    encoder, decoder = replace(model.encoder, depth=4), replace(model.decoder, depth=2)
    return replace(config, scale="vit_l_shape", model=replace(model, encoder=encoder, decoder=decoder))


CASES: dict[str, Callable[[], Case]] = {
    "demo": lambda: Case(demo(), SCENES),
    "tiny": lambda: Case(tiny(), SCENES),
    "vit_l_shape": lambda: Case(vit_l_shape(), PHOTOGRAPHS),
}


def encoder_config(scale: str, depth: int | None = None, image_px: int | None = None) -> RunConfig:
    """Return the run of a scale, with an encoder of another depth or for images of another size if they are given.

    Raises:
        UsageError: the scale is unknown.
    """
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    config = with_attention(SCALES[scale]())
    image_px, encoder = image_px or config.model.image_px, config.model.encoder
    model = replace(config.model, image_px=image_px, encoder=replace(encoder, depth=depth or encoder.depth))
    return replace(config, model=model, data=replace(config.data, render_px=image_px))


def product(config: RunConfig, batch_size: int, device: str, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Return the first product of the encoder's FFN as a call, and its FLOPs."""
    rows, width, columns = shape = product_shape(config, batch_size)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, width, generator=generator).to(device, dtype) for size in (rows, columns))
    return lambda: torch.mm(left, right.T), 2 * math.prod(shape)  # transposed as in a linear layer


def still_optimizer(model: torch.nn.Module, config: RunConfig) -> Optimizer:
    """Return the run's optimizer with a learning rate of 0: weights stay finite, and the work is the same."""
    optimizer = build_optimizer(model, config.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    return optimizer


def batches_of(case: Case, folder: Path, batch_size: int) -> TrainBatches:
    """Write pairs with captions of 8 and of 30 words into a new folder, and return batches of them."""
    write_shards(folder, case.pictures, NUM_SAMPLES)
    description = describe(folder)
    prepare_location(read_source(description))
    values: dict[str, Any] = {
        "data.sources": (str(description),),
        "data.cache_dir": str(folder.parent / "cache"),
        "data.render_px": case.config.model.image_px,
        "budget.samples": batch_size,
        "budget.batch_size": batch_size,
        "device": "cpu",
    }
    config = with_attention(replaced(case.config, values))
    data = prepare(config.data, config.model.vocab_size)
    return TrainBatches(config, data.train, data.tokenizer)


class TrainingStep:
    """A training step as ``aimv2.training.loop`` does it, with new weights that stay as they are.

    Args:
        load: returns the batch of a step.

    Attributes:
        seconds: of each part, by step.
    """

    def __init__(
        self, load: Callable[[], Batch], config: RunConfig, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        model = build(config).to(config.device)
        self.objective = objective(config.objective.name).load()(model, config).train()
        self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        self._load, self._clock = load, clock
        self._engine = Engine(self.objective, config, setup_of(config))
        self._optimizer = still_optimizer(model, config)
        # The clock when a forward pass begins and when it ends, for each micro-batch.
        self._forward: list[float] = []
        self.objective.register_forward_pre_hook(lambda *_: self._forward.append(clock()))
        self.objective.register_forward_hook(lambda *_: self._forward.append(clock()))

    def __call__(self) -> None:
        self._forward.clear()
        start = self._clock()
        batch = self._load()
        loaded = self._clock()
        self._engine.backward(self._engine.micro_batches(batch))
        computed = self._clock()
        self._engine.clip_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        forward = sum(self._forward[1::2]) - sum(self._forward[::2])
        passed = (loaded - start, forward, computed - loaded - forward, self._clock() - computed)
        for part, seconds in zip(PARTS, passed, strict=True):
            self.seconds[part].append(seconds)


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
        own = replace(config, model=replace(config.model, max_text_tokens=max(2, length - 1)))
        parts = [
            replace(
                part,
                attention=part.useful_attention,
                products=part.products * (1 - prefix_len / num_patches if part.name == "pixel head" else 1),
            )
            for part in objective(config.objective.name).cost(own)
        ]
        total += train_flops(parts, 1, supervised)
    return total
