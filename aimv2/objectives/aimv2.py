"""AIMv2's two losses, together and each alone, and CapPa's."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.model.decoder import Decoder, SeparateDecoders, Target
from aimv2.model.network import EncoderDecoder
from aimv2.model.positions import in_reading_order
from aimv2.objectives.base import Implementation, Losses, visible_prefix
from aimv2.objectives.losses import patchify, pixel_loss, standardise, text_loss


class AIMv2(Implementation[EncoderDecoder]):
    """text + alpha x pixel (section 2.1). A batch whose prefixes leave no patch to predict has the text loss alone."""

    predicts: ClassVar[tuple[Target, ...]] = ("pixels", "tokens")

    @classmethod
    def network(cls, config: RunConfig) -> EncoderDecoder:
        return EncoderDecoder(config.model, cls.predicts)

    def forward(self, batch: Batch) -> Losses:
        decoder, prefix_len_B = self.model.decoder, visible_prefix(self.config.model, batch.prefix_len_B)
        image_BIE, text_BSE = self.model(batch.image, batch.token_BT, prefix_len_B, batch.text_len_B, batch.grid_B2)
        text = text_term(decoder, text_BSE, batch, self.config)
        if "pixels" not in self.predicts or not batch.num_scored:
            return Losses(text, {"text_loss": text})
        pixel = pixel_term(decoder, image_BIE, batch, self.config)
        return Losses(text + self.config.objective.pixel_weight * pixel, {"pixel_loss": pixel, "text_loss": text})

    def shared_parameters(self) -> list[nn.Parameter]:
        decoder, has_both = self.model.decoder, len(self.predicts) == 2
        return list(decoder.blocks.parameters()) if has_both and isinstance(decoder, Decoder) else []


class CaptionOnly(AIMv2):
    """Captions alone (section 3.2 and Table 9a, "Cap"), with a prefix or a bidirectional encoder."""

    predicts = ("tokens",)


class CapPa(CaptionOnly):
    """Captions, most of them predicted in parallel (arXiv 2306.07915).

    In a fixed share of each batch all caption tokens are masked and predicted at once, and every text position attends
    to every other and to the whole image. The other captions are predicted token by token.

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
        text = text_term(decoder, text_BSE, batch, self.config)
        return Losses(text, {"text_loss": text})


class ImageOnly(AIMv2):
    """Pixels alone: AIM v1's objective (arXiv 2401.08541) on AIMv2's network (Table 9a).

    The decoder reads image features and no text. AIM v1 itself has an MLP in the decoder's place; the paper does not
    say which of the two Table 9a uses.
    """

    predicts = ("pixels",)

    def forward(self, batch: Batch) -> Losses:
        prefix_len_B = visible_prefix(self.config.model, batch.prefix_len_B)
        image_BIE, _ = self.model(batch.image, batch.token_BT[:, :0], prefix_len_B, grid_B2=batch.grid_B2)
        pixel = pixel_term(self.model.decoder, image_BIE, batch, self.config)
        return Losses(pixel, {"pixel_loss": pixel})


def text_term(decoder: Decoder | SeparateDecoders, text_BSE: Tensor, batch: Batch, config: RunConfig) -> Tensor:
    """Return the cross-entropy of the supervised tokens in nats per token, reduced as ``ObjectiveConfig`` says. Only
    their states are projected to the vocabulary."""
    (B, T), supervised_N = batch.token_BT.shape, batch.supervised_N
    counts = {
        "batch": batch.each(batch.num_supervised),
        "rank": max(batch.num_supervised_of_rank, 1),
        "caption": batch.each(batch.num_images),
    }
    tokens = config.objective.text_tokens
    weight_N: Tensor | None = None
    if tokens == "caption":  # every caption that has a token has a weight of 1
        caption_N, one_N = supervised_N // T, text_BSE.new_ones(len(supervised_N))
        weight_N = 1 / text_BSE.new_zeros(B).index_add(0, caption_N, one_N).index_select(0, caption_N)
    # Text position t predicts token t; the last position predicts nothing.
    hidden_NE = text_BSE[:, :-1].flatten(0, 1).index_select(0, supervised_N)
    target_N = batch.token_BT.flatten().index_select(0, supervised_N)
    return text_loss(hidden_NE, decoder.text_head.weight, target_N, counts[tokens], weight_N=weight_N)


def pixel_term(decoder: Decoder | SeparateDecoders, image_BIE: Tensor, batch: Batch, config: RunConfig) -> Tensor:
    """Return the squared error of the patches after the prefixes, reduced as ``ObjectiveConfig`` says. Only their
    states are projected to pixels, and only they are standardised."""
    num_patches, scored_K = image_BIE.shape[1], batch.scored_K
    counts = {
        "batch": batch.each(batch.num_scored),
        "rank": max(batch.num_scored_of_rank, 1),
        "image": batch.each(batch.num_images * num_patches),
        "image_mean": batch.each(batch.tally.num_scored_images),
    }
    patches = config.objective.pixel_patches
    weight_K: Tensor | None = None
    num_own_B = num_patches if batch.grid_B2 is None else batch.grid_B2.prod(dim=1)
    if patches == "image_mean":  # every image that has a scored patch has a weight of 1
        num_scored_K = (num_own_B - batch.prefix_len_B).index_select(0, scored_K // num_patches)
        weight_K = 1 / num_scored_K.to(image_BIE.dtype)
    elif patches == "image" and isinstance(num_own_B, Tensor):  # I is each image's own
        weight_K = (num_patches / num_own_B.to(image_BIE.dtype)).index_select(0, scored_K // num_patches)
    # Position i predicts patch i+1, and the first patch of an image is always in the prefix.
    hidden_KE = image_BIE.flatten(0, 1).index_select(0, scored_K - 1)
    image = batch.image if batch.target_image is None else batch.target_image
    return pixel_loss(
        decoder.pixel_head(hidden_KE),
        pixel_targets(image, config, scored_K),
        values=config.objective.pixel_values,
        weight_K=weight_K,
        count=counts[patches],
    )


def pixel_targets(image: Tensor, config: RunConfig, scored_K: Tensor | None = None) -> Tensor:
    """Return the targets of the pixel head: [B, I, P] in reading order, or [K, P], those with the given indices in the
    flattened [B x I]."""
    target = in_reading_order(patchify(image, config.model.patch_px), config.model.patch_order, config.model.grid)
    if scored_K is not None:
        target = target.flatten(0, 1).index_select(0, scored_K)
    return standardise(target) if config.objective.pixel_targets == "standardised" else target
