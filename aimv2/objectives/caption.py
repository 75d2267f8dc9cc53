"""Captions alone (AIMv2 section 3.2 and Table 9a, "Cap")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimv2.config.run_config import RunConfig
from aimv2.cost import Part
from aimv2.objectives.base import Losses, Objective, visible_prefix
from aimv2.objectives.multimodal import cost_parts, require_one_decoder_and_image_first

if TYPE_CHECKING:
    from torch import nn

    from aimv2.data.batches import Batch
    from aimv2.model.encoder_decoder import EncoderDecoder


class Caption(Objective):
    """The same network without a pixel head. Table 9a has it with a prefix and with a bidirectional encoder."""

    attention = "prefix"
    reports = ("captions",)
    reads = ("supervise_eos",)

    def check(self, config: RunConfig) -> None:
        super().check(config)
        require_one_decoder_and_image_first(config, "which predicts captions from images")

    def network(self, config: RunConfig) -> EncoderDecoder:
        from aimv2.model.encoder_decoder import EncoderDecoder

        return EncoderDecoder(config.model, ("tokens",))

    def losses(self, model: nn.Module, batch: Batch, config: RunConfig) -> Losses:
        from aimv2.model.encoder_decoder import EncoderDecoder
        from aimv2.objectives.terms import text_term

        assert isinstance(model, EncoderDecoder)
        _, text_BSE = model(batch.image, batch.token_BT, visible_prefix(config.model, batch.prefix_len_B))
        text = text_term(model.decoder, text_BSE, batch)
        return Losses(text, {"text_loss": text})

    def cost(self, config: RunConfig) -> list[Part]:
        return cost_parts(config, ("tokens",))
