"""Captions and pixels together (AIMv2 section 2.1)."""

from torch import nn

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.model.decoder import Decoder
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives.base import Implementation, Losses, visible_prefix
from aimv2.objectives.terms import pixel_term, text_term


class AIMv2(Implementation[EncoderDecoder]):
    """text + alpha x pixel. A batch whose prefixes leave no patch to predict has the text loss alone."""

    def network(self, config: RunConfig) -> EncoderDecoder:
        return EncoderDecoder(config.model)

    def losses(self, model: EncoderDecoder, batch: Batch, config: RunConfig) -> Losses:
        prefix_len_B = visible_prefix(config.model, batch.prefix_len_B)
        image_BIE, text_BSE = model(batch.image, batch.token_BT, prefix_len_B, batch.text_len_B)
        text = text_term(model.decoder, text_BSE, batch)
        if not batch.num_scored:
            return Losses(text, {"text_loss": text})
        pixel = pixel_term(model.decoder, image_BIE, batch, config)
        return Losses(text + config.objective.pixel_weight * pixel, {"pixel_loss": pixel, "text_loss": text})

    def shared_parameters(self, model: EncoderDecoder) -> list[nn.Parameter]:
        return list(model.decoder.blocks.parameters()) if isinstance(model.decoder, Decoder) else []
