"""Captions and pixels together (AIMv2 section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimv2.config.run_config import RunConfig
from aimv2.cost import Part
from aimv2.errors import UsageError
from aimv2.objectives.base import Losses, Objective, visible_prefix
from aimv2.objectives.multimodal import cost_parts

if TYPE_CHECKING:
    from torch import nn

    from aimv2.data.batches import Batch
    from aimv2.model.encoder_decoder import EncoderDecoder


class AIMv2(Objective):
    """text + alpha x pixel. A batch whose prefixes leave no patch to predict has the text loss alone."""

    attention = "prefix"
    reports = ("captions", "pixels")
    reads = ("pixel_weight", "pixel_values", "pixel_patches", "pixel_targets", "supervise_eos")

    def check(self, config: RunConfig) -> None:
        super().check(config)
        decoder = config.model.decoder
        if decoder.sharing == "separate" and decoder.order == "text_first":
            raise UsageError(
                "model.decoder.sharing='separate' with order='text_first': neither decoder would read what comes first;"
                " choose 'joint' or 'image_first'"
            )

    def network(self, config: RunConfig) -> EncoderDecoder:
        from aimv2.model.encoder_decoder import EncoderDecoder

        return EncoderDecoder(config.model)

    def losses(self, model: nn.Module, batch: Batch, config: RunConfig) -> Losses:
        from aimv2.model.encoder_decoder import EncoderDecoder
        from aimv2.objectives.terms import pixel_term, text_term

        assert isinstance(model, EncoderDecoder)
        prefix_len_B = visible_prefix(config.model, batch.prefix_len_B)
        image_BIE, text_BSE = model(batch.image, batch.token_BT, prefix_len_B, batch.text_len_B)
        text = text_term(model.decoder, text_BSE, batch)
        if not batch.num_scored:
            return Losses(text, {"text_loss": text})
        pixel = pixel_term(model.decoder, image_BIE, batch, config)
        return Losses(text + config.objective.pixel_weight * pixel, {"pixel_loss": pixel, "text_loss": text})

    def shared_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        from aimv2.model.decoder import Decoder
        from aimv2.model.encoder_decoder import EncoderDecoder

        assert isinstance(model, EncoderDecoder)
        return list(model.decoder.blocks.parameters()) if isinstance(model.decoder, Decoder) else []

    def cost(self, config: RunConfig) -> list[Part]:
        return cost_parts(config, ("pixels", "tokens"))
