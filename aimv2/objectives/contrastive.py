"""Contrastive pre-training: images are matched with their captions, by CLIP's or by SigLIP's loss."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.model.dual_encoder import DualEncoder
from aimv2.objectives.base import Comparing, Embeddings, Losses, visible_prefix
from aimv2.objectives.losses import magnified, sigmoid_contrast, softmax_contrast, spliced

MAX_SCALE = 100.0  # CLIP (arXiv 2103.00020, section 2.5) and ml-aim's LiT


class Contrastive(Comparing[DualEncoder]):
    """The network and embeddings of both.

    Every part of a batch computes the loss of the whole, with gradients through its own embeddings alone, as in
    gradient caching (arXiv 2101.06983). The embeddings of the other ranks, and of other micro-batches, have none.

    Attributes:
        temperature, bias: initial values, unless the config has others.
    """

    temperature: ClassVar[float]
    bias: ClassVar[float | None] = None
    max_scale: ClassVar[float] = math.inf  # upper bound of the inverse temperature

    @classmethod
    def network(cls, config: RunConfig) -> DualEncoder:
        objective = config.objective
        temperature = objective.temperature or cls.temperature
        bias = cls.bias if objective.bias is None else objective.bias
        return DualEncoder(config.model, temperature=temperature, bias=bias, max_scale=cls.max_scale)

    def forward(self, batch: Batch, whole: Callable[[Embeddings], Embeddings] | None = None) -> Losses:
        image_BS, text_BS = own = self.embed(batch)
        weight = 1.0
        if whole is not None:
            # With this weight, the sum over the parts of a rank, averaged over ranks, is the loss, with the gradient
            # of the scale and the bias. The gradient of an embedding, which only one part has, must not be divided.
            weight = len(image_BS) / batch.each(batch.num_images)
            factor = batch.share.ranks / weight
            image_BS, text_BS = (
                spliced(whole_CS, magnified(own_BS, factor), batch.share.first)
                for whole_CS, own_BS in zip(whole(own), own, strict=True)
            )
        contrast = weight * self.contrast(self.model.similarity(image_BS, text_BS))
        return Losses(contrast, {"contrastive_loss": contrast})

    def embed(self, batch: Batch) -> Embeddings:
        image_BS = self.model.embed_images(batch.image, visible_prefix(self.config.model, batch.prefix_len_B))
        return Embeddings(image_BS, self.model.embed_texts(batch.token_BT, batch.text_len_B))

    @staticmethod
    @abstractmethod
    def contrast(logits_BB: Tensor) -> Tensor:
        """Return the loss of the logits [image, text] of the whole batch."""


class CLIP(Contrastive):
    """Symmetric InfoNCE over the images and texts of the batch (arXiv 2103.00020)."""

    temperature = 0.07  # CLIP, ml-l3m
    max_scale = MAX_SCALE

    contrast = staticmethod(softmax_contrast)


class SigLIP(Contrastive):
    """Binary classification of each image-text pair of the batch (arXiv 2303.15343)."""

    temperature = 0.1  # section 3.2: t' = log 10, b = -10
    bias = -10.0
    contrast = staticmethod(sigmoid_contrast)
