"""Training steps on made-up pairs: the models that are timed, their data, and what a step needs. Letters: B images."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from aimv2.base.errors import unknown
from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import SCALES, vit_l
from aimv2.config.run_config import RunConfig
from aimv2.cost.parts import train_flops
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.memory.setup import setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.spec.objectives import objective
from aimv2.training.device import product_shape
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer
from aimv2.training.world import ALONE, World
from benchmarks.options import Precision
from benchmarks.synthetic import PHOTOGRAPHS, SCENES, Pictures, describe, write_shards

NUM_SAMPLES, NUM_STEPS = 64, 2**20  # more steps than are timed
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


def case_of(name: str) -> Case:
    """Return a scale's case, or that of ``vit_l_shape``; models of the demo's size learn from scenes.

    Raises:
        UsageError: the scale is unknown.
    """
    models = {**SCALES, "vit_l_shape": vit_l_shape}
    if name not in models:
        raise unknown("scale", name, models)
    config = models[name]()
    return Case(config, SCENES if config.model.image_px <= SCENES.image_px else PHOTOGRAPHS)


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


def batches_of(
    case: Case, folder: Path, batch_size: int, own: Mapping[str, Any] | None = None, *, rank: int = 0
) -> TrainBatches:
    """Write pairs with captions of 8 and of 30 words into a new folder, and return batches of them.

    Args:
        own: values of the run, by their paths.
        rank: whose share of each batch to return.
    """
    write_shards(folder, case.pictures, NUM_SAMPLES)
    description = describe(folder)
    prepare_location(read_source(description))
    values: dict[str, Any] = {
        "data.sources": (str(description),),
        "data.cache_dir": str(folder.parent / "cache"),
        "data.render_px": case.config.model.image_px,
        "budget.samples": NUM_STEPS * batch_size,
        "budget.batch_size": batch_size,
        "device": "cpu",
        **(own or {}),
    }
    config = with_attention(replaced(case.config, values))
    data = prepare(config.data, config.model.vocab_size)
    return TrainBatches(config, data.train, data.tokenizer, rank if config.ranks > 1 else None)


def recorded() -> torch.cuda.Event:
    """Return the moment at which the GPU gets here, for which nothing waits."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(start: Any, end: Any) -> float:
    """Return the seconds from one moment to another: readings of a clock, or events that the GPU has passed."""
    return float(start.elapsed_time(end) / 1000 if isinstance(start, torch.cuda.Event) else end - start)


class TrainingStep:
    """A training step as ``aimv2.training.loop`` does it, with new weights that stay as they are.

    Args:
        load: returns the batch of a step, or its micro-batches.
        now: returns a moment, a reading of a clock or an event of the GPU. There the time of the data is that for which
            the GPU waits.
        world: the ranks that train together.
    """

    def __init__(
        self,
        load: Callable[[], Batch | list[Batch]],
        config: RunConfig,
        now: Callable[[], Any] = time.perf_counter,
        world: World = ALONE,
    ) -> None:
        model = build(config).to(config.device)
        self.objective = implementation_of(objective(config.objective.name))(model, config).train()
        self._load, self._now = load, now
        self._engine = Engine(self.objective, config, setup_of(config), world)
        self._optimizer = still_optimizer(model, config)
        # Moments when a forward pass begins and when it ends, for each micro-batch; by step, these and four more.
        self._forward: list[Any] = []
        self._steps: list[tuple[list[Any], list[Any]]] = []
        self.objective.register_forward_pre_hook(lambda *_: self._forward.append(now()))
        self.objective.register_forward_hook(lambda *_: self._forward.append(now()))

    @property
    def seconds(self) -> dict[str, list[float]]:
        """The seconds of each part, by step."""
        if self._steps and isinstance(self._steps[-1][1][-1], torch.cuda.Event):
            torch.cuda.synchronize()
        found: dict[str, list[float]] = {part: [] for part in PARTS}
        for forwards, (start, loaded, computed, end) in self._steps:
            forward = sum(map(seconds_between, forwards[::2], forwards[1::2]))
            backward = seconds_between(loaded, computed) - forward
            passed = (seconds_between(start, loaded), forward, backward, seconds_between(computed, end))
            for part, seconds in zip(PARTS, passed, strict=True):
                found[part].append(seconds)
        return found

    def __call__(self) -> None:
        self._forward = []
        moments = [self._now()]
        batch = self._load()
        moments.append(self._now())
        self._engine.backward(self._engine.micro_batches(batch) if isinstance(batch, Batch) else batch)
        moments.append(self._now())
        self._engine.clip_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        moments.append(self._now())
        self._steps.append((self._forward, moments))


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
