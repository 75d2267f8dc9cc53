"""AIMv2's two losses, together and each alone."""

from typing import ClassVar

from torch import nn

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.model.decoder import Decoder, Target
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives.base import Implementation, Losses, visible_prefix
from aimv2.objectives.terms import pixel_term, text_term


class AIMv2(Implementation[EncoderDecoder]):
    """text + alpha x pixel (section 2.1). A batch whose prefixes leave no patch to predict has the text loss alone."""

    predicts: ClassVar[tuple[Target, ...]] = ("pixels", "tokens")

    def network(self, config: RunConfig) -> EncoderDecoder:
        return EncoderDecoder(config.model, self.predicts)

    def losses(self, model: EncoderDecoder, batch: Batch, config: RunConfig) -> Losses:
        prefix_len_B = visible_prefix(config.model, batch.prefix_len_B)
        image_BIE, text_BSE = model(batch.image, batch.token_BT, prefix_len_B, batch.text_len_B)
        text = text_term(model.decoder, text_BSE, batch)
        if "pixels" not in self.predicts or not batch.num_scored:
            return Losses(text, {"text_loss": text})
        pixel = pixel_term(model.decoder, image_BIE, batch, config)
        return Losses(text + config.objective.pixel_weight * pixel, {"pixel_loss": pixel, "text_loss": text})

    def shared_parameters(self, model: EncoderDecoder) -> list[nn.Parameter]:
        has_both = len(self.predicts) == 2
        return list(model.decoder.blocks.parameters()) if has_both and isinstance(model.decoder, Decoder) else []


class Caption(AIMv2):
    """Captions alone (section 3.2 and Table 9a, "Cap"), with a prefix or a bidirectional encoder."""

    predicts = ("tokens",)


class ImageOnly(AIMv2):
    """Pixels alone: AIM v1's objective (arXiv 2401.08541) on AIMv2's network (Table 9a).

    The decoder reads image features and no text. AIM v1 itself has an MLP in the decoder's place; the paper does not
    say which of the two Table 9a uses.
    """

    predicts = ("pixels",)

    def losses(self, model: EncoderDecoder, batch: Batch, config: RunConfig) -> Losses:
        prefix_len_B = visible_prefix(config.model, batch.prefix_len_B)
        image_BIE, _ = model(batch.image, batch.token_BT[:, :0], prefix_len_B)
        pixel = pixel_term(model.decoder, image_BIE, batch, config)
        return Losses(pixel, {"pixel_loss": pixel})
