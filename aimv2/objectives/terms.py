"""Loss terms on the hidden states of a decoder."""

from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.losses import patchify, pixel_loss, standardise, text_loss
from aimv2.model.decoder import Decoder, SeparateDecoders
from aimv2.model.positions import in_reading_order


def text_term(decoder: Decoder | SeparateDecoders, text_BSE: Tensor, batch: Batch) -> Tensor:
    """Return the cross-entropy of the supervised tokens in nats per token. Only their states are projected to the
    vocabulary."""
    # Text position t predicts token t; the last position predicts nothing.
    hidden_NE = text_BSE[:, :-1].flatten(0, 1).index_select(0, batch.supervised_N)
    target_N = batch.token_BT.flatten().index_select(0, batch.supervised_N)
    count = None if batch.share is None else batch.each(batch.num_supervised)
    return text_loss(decoder.text_head(hidden_NE), target_N, count)


def pixel_term(decoder: Decoder | SeparateDecoders, image_BIE: Tensor, batch: Batch, config: RunConfig) -> Tensor:
    """Return the squared error of the patches after the prefixes, reduced as ``ObjectiveConfig`` says."""
    count, patches = None, config.objective.pixel_patches
    if batch.share is not None:
        count = batch.each(batch.num_scored if patches == "batch" else batch.share.num_scored_images)
    return pixel_loss(
        decoder.pixel_head(image_BIE),
        pixel_targets(batch.image, config),
        batch.prefix_len_B,
        values=config.objective.pixel_values,
        patches=patches,
        count=count,
    )


def pixel_targets(image: Tensor, config: RunConfig) -> Tensor:
    """Return the targets of the pixel head: [B, I, P] in reading order."""
    target_BIP = in_reading_order(patchify(image, config.model.patch_px), config.model.patch_order, config.model.grid)
    return standardise(target_BIP) if config.objective.pixel_targets == "standardised" else target_BIP
