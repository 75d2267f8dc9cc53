"""Training steps of the cost study, of every objective, timed in turn. Letters: B images, T caption tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from aimv2.analysis.costs.measurements import ObjectiveCost, TrainingSetting, rounded
from aimv2.config.model_config import TransformerConfig
from aimv2.config.recipes.scales import demo, vit_l
from aimv2.config.run_config import RunConfig
from aimv2.cost.parts import num_parameters, train_flops
from aimv2.data.batches.batch import Batch
from aimv2.request.resolve import with_attention
from aimv2.spec.objectives import PRE_TRAINING, objective
from benchmarks.peak import peak_bytes
from benchmarks.timing import CpuShare, interleaved
from benchmarks.training import TrainingStep

PROPORTION = "vit_l / 2"
MIN_TOKEN = 2  # padding and end-of-text come first


@dataclass(frozen=True)
class Scale:
    """A scale at which objectives are compared.

    Attributes:
        batch_size: samples of a timed step; None if only FLOPs are computed.
    """

    name: str
    description: str
    config: RunConfig
    batch_size: int | None


def scales(batch_size: int) -> list[Scale]:
    """Return the scales of the study; the second has this batch size, and is not timed if that is 0."""
    small, large = demo(), vit_l()
    model = large.model
    proportion = (
        f"as `vit_l` with half the width, a quarter of the depth and an eighth of the vocabulary: {model.num_patches}"
        f" patches, {model.max_text_tokens} caption tokens"
    )
    return [
        Scale(small.scale, "the recipe `demo`", small, small.budget.batch_size),
        Scale(PROPORTION, proportion, in_proportion(large), batch_size or None),
        Scale(large.scale, "the recipe `vit_l`, not timed", large, None),
    ]


def in_proportion(config: RunConfig) -> RunConfig:
    """Return the run with half the width and a quarter of the depth of all stacks, and an eighth of the vocabulary.

    Blocks, vocabulary and towers keep their shares of the parameters. Attention among the tokens, of which there are as
    many, weighs twice as much beside the weights' products.
    """
    model = config.model

    def smaller(stack: TransformerConfig) -> dict[str, Any]:
        return {"width": stack.width // 2, "num_heads": stack.num_heads // 2, "depth": stack.depth // 4}

    return replace(
        config,
        scale=PROPORTION,
        model=replace(
            model,
            encoder=replace(model.encoder, **smaller(model.encoder)),
            decoder=replace(model.decoder, **smaller(model.decoder)),
            text_tower=replace(model.text_tower, **smaller(model.tower.stack)),
            vocab_size=model.vocab_size // 8,
        ),
    )


def with_objective(config: RunConfig, name: str, *, batch_size: int, device: Literal["cpu", "cuda"]) -> RunConfig:
    """Return the run with an objective and its attention, in float32 on the CPU and bfloat16 on CUDA."""
    return with_attention(
        replace(
            config,
            objective=replace(config.objective, name=name),
            budget=replace(config.budget, samples=0, batch_size=batch_size),
            precision="bfloat16" if device == "cuda" else "float32",
            device=device,
        )
    )


def random_batch(config: RunConfig) -> Batch:
    """Return a batch of noise, whose captions have the maximal length and whose prefixes are drawn as in training."""
    model, generator, B = config.model, torch.Generator().manual_seed(0), config.budget.batch_size
    token_BT = torch.randint(MIN_TOKEN, model.vocab_size, (B, model.max_text_tokens), generator=generator)
    prefix_len_B = torch.from_numpy(
        config.prefix.draw(
            seed=0,
            epoch_B=np.zeros(B, int),
            sample_id_B=np.arange(B),
            step=0,
            num_steps=1,
            num_patches=model.num_patches,
        )
    )
    image = torch.randn(B, 3, model.image_px, model.image_px, generator=generator)
    text_len_B = torch.full((B,), model.max_text_tokens)
    return Batch.of(image, token_BT, prefix_len_B, torch.arange(token_BT.numel()), text_len_B, config)


def step_of(config: RunConfig) -> TrainingStep:
    batch = random_batch(config)
    return TrainingStep(lambda: batch, config)


def measure_objectives(
    scale: Scale,
    repeats: int,
    device: Literal["cpu", "cuda"],
    clock: Callable[[], float],
    names: Sequence[str] = PRE_TRAINING,
) -> TrainingSetting:
    """Measure a step of each objective at a scale. The networks of all are in memory together."""
    batch_size = scale.batch_size or scale.config.budget.batch_size
    configs = {name: with_objective(scale.config, name, batch_size=batch_size, device=device) for name in names}
    steps = {name: step_of(config) for name, config in configs.items()} if scale.batch_size else {}
    share = CpuShare()
    timings = interleaved(steps, repeats, clock=clock, min_seconds=0) if steps else {}
    cpu_share = share.read() if steps else None
    return TrainingSetting(
        scale=scale.name,
        description=scale.description,
        batch_size=batch_size,
        text_tokens=scale.config.model.max_text_tokens,
        cpu_share=cpu_share,
        objectives=[
            ObjectiveCost(
                objective=name,
                parameters=num_parameters(parts),
                flops=round(train_flops(parts, 1, config.model.max_text_tokens)),
                seconds=rounded(timings[name].tolist()) if steps else [],
                peak_bytes=peak_bytes(steps[name], device) if steps else 0,
            )
            for name, config in configs.items()
            if (parts := objective(name).cost(config))
        ],
    )
