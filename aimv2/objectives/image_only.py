"""Pixels alone: AIM v1's objective (arXiv 2401.08541) on AIMv2's network (AIMv2 Table 9a)."""

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives.base import Implementation, Losses, visible_prefix
from aimv2.objectives.terms import pixel_term


class ImageOnly(Implementation[EncoderDecoder]):
    """The decoder reads image features and no text. AIM v1 itself has an MLP in the decoder's place; the paper does not
    say which of the two Table 9a uses."""

    def network(self, config: RunConfig) -> EncoderDecoder:
        return EncoderDecoder(config.model, ("pixels",))

    def losses(self, model: EncoderDecoder, batch: Batch, config: RunConfig) -> Losses:
        prefix_len_B = visible_prefix(config.model, batch.prefix_len_B)
        image_BIE, _ = model(batch.image, batch.token_BT[:, :0], prefix_len_B)
        pixel = pixel_term(model.decoder, image_BIE, batch, config)
        return Losses(pixel, {"pixel_loss": pixel})
