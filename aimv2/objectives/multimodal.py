"""What the objectives share whose networks are an encoder and a decoder; their losses are in ``terms.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimv2.config.run_config import RunConfig
from aimv2.cost import Part, decoder_cost, encoder_cost, pixel_head_cost, text_head_cost
from aimv2.errors import UsageError

if TYPE_CHECKING:
    from aimv2.model.decoder import Target


def cost_parts(
    config: RunConfig, predicts: tuple[Target, ...], *, parallel_fraction: float | None = None
) -> list[Part]:
    """Encoder, decoder or decoders, and heads.

    Args:
        parallel_fraction: share of the captions that are predicted in parallel, by a decoder that can do that.
    """
    by_target = {"pixels": "decoder", "tokens": "decoder"}
    if config.model.decoder.sharing == "separate":
        by_target = {"pixels": "decoder.pixels", "tokens": "decoder.tokens"}
        decoders = [
            decoder_cost(config, "pixel decoder", by_target["pixels"], reads_text=False),
            decoder_cost(config, "token decoder", by_target["tokens"], reads_text=True),
        ]
    else:
        reads_text = "tokens" in predicts
        decoders = [
            decoder_cost(config, "decoder", "decoder", reads_text=reads_text, parallel_fraction=parallel_fraction)
        ]
    parts = [encoder_cost(config), *decoders]
    if "pixels" in predicts:
        parts.append(pixel_head_cost(config, f"{by_target['pixels']}.pixel_head"))
    if "tokens" in predicts:
        parts.append(text_head_cost(config, f"{by_target['tokens']}.text_head"))
    return parts


def require_one_decoder_and_image_first(config: RunConfig, why: str) -> None:
    """Refuse what a decoder with one head cannot have.

    Raises:
        UsageError: ``sharing`` or ``order`` is not the default.
    """
    decoder, name = config.model.decoder, config.objective.name
    if decoder.sharing != "joint":
        raise UsageError(
            f"model.decoder.sharing={decoder.sharing!r} with objective.name={name!r}, {why}: only 'joint' is possible"
        )
    if decoder.order != "image_first":
        raise UsageError(
            f"model.decoder.order={decoder.order!r} with objective.name={name!r}, {why}: only 'image_first' is possible"
        )
