"""Captions, most of them predicted in parallel: CapPa (arXiv 2306.07915)."""

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


class CapPa(Objective):
    """In a fixed share of each batch all caption tokens are hidden and predicted at once, every text position seeing
    every other and all of the image; the rest is predicted token by token.

    CapPa's own decoder attends to the image by cross-attention; AIMv2 re-trained it on its own architecture (section
    5), so here image features come first in the sequence as ever, and stay causal among themselves.
    """

    attention = "bidirectional"
    reports = ("captions",)
    reads = ("supervise_eos", "parallel_fraction")

    def check(self, config: RunConfig) -> None:
        super().check(config)
        require_one_decoder_and_image_first(config, "which predicts captions from images")

    def network(self, config: RunConfig) -> EncoderDecoder:
        from aimv2.model.encoder_decoder import EncoderDecoder

        return EncoderDecoder(config.model, ("tokens",), is_parallel=True)

    def losses(self, model: nn.Module, batch: Batch, config: RunConfig) -> Losses:
        import torch

        from aimv2.model.decoder import Decoder
        from aimv2.model.encoder_decoder import EncoderDecoder
        from aimv2.objectives.terms import text_term

        assert isinstance(model, EncoderDecoder)
        assert isinstance(model.decoder, Decoder)
        features_BID = model.encoder(batch.image, visible_prefix(config.model, batch.prefix_len_B))
        # The order of samples is random, so the first of a batch are as good as any.
        first, ranks = (0, 1) if batch.share is None else (batch.share.first, batch.share.ranks)
        num_parallel = round(config.objective.parallel_fraction * (ranks * len(batch.image)))
        place_B = torch.arange(first, first + len(batch.image), device=batch.image.device)
        is_parallel_B = place_B < num_parallel
        _, text_BSE = model.decoder(features_BID, batch.token_BT, is_parallel_B=is_parallel_B)
        text = text_term(model.decoder, text_BSE, batch)
        return Losses(text, {"text_loss": text})

    def cost(self, config: RunConfig) -> list[Part]:
        return cost_parts(config, ("tokens",), parallel_fraction=config.objective.parallel_fraction)
