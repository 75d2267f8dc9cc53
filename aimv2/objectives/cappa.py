"""Captions, most of them predicted in parallel: CapPa (arXiv 2306.07915)."""

import torch

from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives.aimv2 import Caption, text_term
from aimv2.objectives.base import Losses, visible_prefix


class CapPa(Caption):
    """In a fixed share of each batch all caption tokens are masked and predicted at once, and every text position
    attends to every other and to the whole image. The other captions are predicted token by token.

    CapPa's own decoder attends to the image by cross-attention. AIMv2 re-trained it on its own architecture (section
    5), so here image features come first in the sequence, as in AIMv2, and stay causal among themselves.
    """

    reads_padding = True  # a caption that is predicted at once has a masked token in every place

    @classmethod
    def network(cls, config: RunConfig) -> EncoderDecoder:
        return EncoderDecoder(config.model, cls.predicts, is_parallel=True)

    def forward(self, batch: Batch) -> Losses:
        encoder, decoder = self.model.encoder, self.model.decoder
        features_BID = encoder(batch.image, visible_prefix(self.config.model, batch.prefix_len_B))
        # The order of samples is random, so the first of a batch are as good as any.
        num_parallel = round(self.config.objective.parallel_fraction * batch.num_images)
        place_B = torch.arange(len(batch.image), device=batch.image.device) + batch.share.first
        _, text_BSE = decoder(features_BID, batch.token_BT, is_parallel_B=place_B < num_parallel)
        text = text_term(decoder, text_BSE, batch)
        return Losses(text, {"text_loss": text})
