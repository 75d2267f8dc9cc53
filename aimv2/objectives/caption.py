"""Captions alone (AIMv2 section 3.2 and Table 9a, "Cap")."""

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives.base import Implementation, Losses, visible_prefix
from aimv2.objectives.terms import text_term


class Caption(Implementation[EncoderDecoder]):
    """AIMv2's network without a pixel head. Table 9a has it with a prefix and with a bidirectional encoder."""

    def network(self, config: RunConfig) -> EncoderDecoder:
        return EncoderDecoder(config.model, ("tokens",))

    def losses(self, model: EncoderDecoder, batch: Batch, config: RunConfig) -> Losses:
        _, text_BSE = model(batch.image, batch.token_BT, visible_prefix(config.model, batch.prefix_len_B))
        text = text_term(model.decoder, text_BSE, batch)
        return Losses(text, {"text_loss": text})
