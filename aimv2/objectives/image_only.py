"""Pixels alone: AIM v1's objective (arXiv 2401.08541) on AIMv2's network (AIMv2 Table 9a)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimv2.config.run_config import RunConfig
from aimv2.cost import Part
from aimv2.errors import UsageError
from aimv2.objectives.base import Losses, Objective, visible_prefix
from aimv2.objectives.multimodal import cost_parts, require_one_decoder_and_image_first

if TYPE_CHECKING:
    from torch import nn

    from aimv2.data.batches import Batch
    from aimv2.model.encoder_decoder import EncoderDecoder


class ImageOnly(Objective):
    """The decoder reads image features and no text. AIM v1 itself had an MLP in the decoder's place; which of the two
    Table 9a used, the paper does not say."""

    attention = "prefix"
    reports = ("pixels",)
    reads = ("pixel_values", "pixel_patches", "pixel_targets")

    def check(self, config: RunConfig) -> None:
        super().check(config)
        require_one_decoder_and_image_first(config, "which reads no captions")
        if config.prefix.full_attention:
            raise UsageError(
                f"prefix.full_attention={config.prefix.full_attention:g} with objective.name='image_only': an image"
                " with full attention has nothing to learn from; only 0 is possible"
            )
        if config.data.captions != "own":
            raise UsageError(
                f"data.captions={config.data.captions!r} with objective.name='image_only', which reads no captions:"
                " only 'own' is possible"
            )

    def network(self, config: RunConfig) -> EncoderDecoder:
        from aimv2.model.encoder_decoder import EncoderDecoder

        return EncoderDecoder(config.model, ("pixels",))

    def losses(self, model: nn.Module, batch: Batch, config: RunConfig) -> Losses:
        from aimv2.model.encoder_decoder import EncoderDecoder
        from aimv2.objectives.terms import pixel_term

        assert isinstance(model, EncoderDecoder)
        prefix_len_B = visible_prefix(config.model, batch.prefix_len_B)
        image_BIE, _ = model(batch.image, batch.token_BT[:, :0], prefix_len_B)
        pixel = pixel_term(model.decoder, image_BIE, batch, config)
        return Losses(pixel, {"pixel_loss": pixel})

    def cost(self, config: RunConfig) -> list[Part]:
        return cost_parts(config, ("pixels",))
