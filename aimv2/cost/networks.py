"""The parts of each kind of network, with their cost.

Letters: D encoder width, E width of a teacher, S width of a shared space, B images in a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from aimv2.cost.modules import (
    decoder_cost,
    encoder_cost,
    encoder_part,
    image_head_cost,
    is_encoder_frozen,
    pixel_head_cost,
    text_head_cost,
    text_tower_cost,
)
from aimv2.cost.parts import Part

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig  # which imports the objectives, and they this


def encoder_decoder_cost(
    config: RunConfig,
    predicts: tuple[Literal["pixels", "tokens"], ...],
    *,
    is_parallel: bool = False,
    area: int | None = None,
) -> list[Part]:
    """Return the parts of an encoder with one or two decoders and their heads.

    Args:
        predicts: the heads that the network has.
        is_parallel: the decoder can predict captions in parallel.
        area: patches of an image at native resolution, padding included. None is the mean over areas of as many patches
            as an image of ``image_px`` has, which is what budgets count.
    """
    if config.native.areas and area is None:
        return _mean_over_areas(config, partial(encoder_decoder_cost, config, predicts, is_parallel=is_parallel))
    parts = [encoder_cost(config, area)]
    if config.model.decoder.sharing == "separate":
        pixels, tokens = "decoder.pixels", "decoder.tokens"
        parts.append(decoder_cost(config, "pixel decoder", pixels, reads_text=False, area=area))
        parts.append(decoder_cost(config, "token decoder", tokens, reads_text=True, area=area))
    else:
        pixels = tokens = "decoder"
        reads_text = "tokens" in predicts
        parts.append(
            decoder_cost(config, "decoder", "decoder", reads_text=reads_text, is_parallel=is_parallel, area=area)
        )
    if "pixels" in predicts:
        parts.append(pixel_head_cost(config, f"{pixels}.pixel_head", area))
    if "tokens" in predicts:
        parts.append(text_head_cost(config, f"{tokens}.text_head"))
    return parts


def _mean_over_areas(config: RunConfig, cost: Callable[..., list[Part]]) -> list[Part]:
    """Return the mean of the parts of all areas, by their probability and the images that share I patches."""
    native, patches = config.native, config.model.num_patches
    weights = [chance * patches / area for chance, area in zip(native.pmf().tolist(), native.areas, strict=True)]
    by_area = [cost(area=area) for area in native.areas]
    counted = (
        "products",
        "attention",
        "useful_attention",
        "per_token",
        "of_input",
        "saved",
        "saved_in_product",
        "saved_per_token",
    )
    return [
        replace(
            parts[0],
            **{
                name: sum(weight * getattr(part, name) for weight, part in zip(weights, parts, strict=True))
                for name in counted
            },
        )
        for parts in zip(*by_area, strict=True)
    ]


def dual_encoder_cost(config: RunConfig, *, has_bias: bool) -> list[Part]:
    """Return the parts of an image encoder, a text tower and their similarity, which may have a learned bias."""
    B, S = config.budget.batch_size, config.model.tower.embed_dim
    # Every image of a batch is compared with every text, with a learned scale.
    similarity = Part(
        name="similarity",
        module="similarity",
        parameters=1 + has_bias,
        products=2 * B * S,
        saved=2 * B,
        is_of_batch=True,
    )
    return [encoder_cost(config), image_head_cost(config), text_tower_cost(config), similarity]


def distillation_cost(config: RunConfig) -> list[Part]:
    """Return the parts of an encoder with a linear layer to the width of its teacher, and the teacher."""
    teacher = config.start.teacher_encoder
    assert teacher is not None, "with_start() fills in the teacher's sizes"
    patches, D, E = config.model.num_patches, config.model.encoder.width, teacher.width
    head = Part(
        name="head",
        module="head",
        parameters=(D + 1) * E,
        products=2 * patches * D * E,
        of_input=is_encoder_frozen(config) * 2 * patches * D * E,
        saved=2 * patches * (E + 1),
    )
    imitated = encoder_part(config.model, teacher, useful_share=1.0)
    imitated = replace(imitated, name="teacher", module="teacher", saved=0, is_frozen=True, is_in_network=False)
    return [encoder_cost(config), head, imitated]
