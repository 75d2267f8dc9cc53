"""What the objectives share whose networks are an encoder and a decoder."""

from torch import Tensor

from aimv2 import losses
from aimv2.config import RunConfig
from aimv2.cost import Part, decoder_cost, encoder_cost, pixel_head_cost, text_head_cost
from aimv2.data.batches import Batch
from aimv2.errors import UsageError
from aimv2.losses import patchify, pixel_loss, standardise
from aimv2.model.decoder import Decoder, SeparateDecoders, Target
from aimv2.model.positions import in_reading_order


def text_term(decoder: Decoder | SeparateDecoders, text_BSE: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the batch's supervised tokens, nats per token; only they meet the vocabulary."""
    # Text position t predicts token t; the last position predicts nothing.
    hidden_NE = text_BSE[:, :-1].flatten(0, 1).index_select(0, batch.supervised_N)
    return losses.text_loss(decoder.text_head(hidden_NE), batch.token_BT.flatten().index_select(0, batch.supervised_N))


def pixel_term(
    decoder: Decoder | SeparateDecoders, image_BIE: Tensor, image: Tensor, prefix_len_B: Tensor, config: RunConfig
) -> Tensor:
    """Squared error of the patches outside the prefixes, as the config has it."""
    return pixel_loss(
        decoder.pixel_head(image_BIE),
        pixel_targets(image, config),
        prefix_len_B,
        values=config.objective.pixel_values,
        patches=config.objective.pixel_patches,
    )


def pixel_targets(image: Tensor, config: RunConfig) -> Tensor:
    """What the pixel head should predict: [B, I, P] in reading order."""
    target_BIP = in_reading_order(patchify(image, config.model.patch_px), config.model.patch_order, config.model.grid)
    return standardise(target_BIP) if config.objective.pixel_targets == "standardised" else target_BIP


def cost_parts(config: RunConfig, predicts: tuple[Target, ...], *, parallel_fraction: float = 0.0) -> list[Part]:
    """Encoder, decoder or decoders, and heads.

    Args:
        parallel_fraction: share of the captions that are predicted in parallel.
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
