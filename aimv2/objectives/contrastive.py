"""Contrastive pre-training: images are matched with their captions, by CLIP's or by SigLIP's loss."""

import math
from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.losses import gathered, sigmoid_contrast, softmax_contrast
from aimv2.model.dual_encoder import DualEncoder, Similarity
from aimv2.objectives.base import Implementation, Losses, visible_prefix

MAX_SCALE = 100.0  # CLIP (arXiv 2103.00020, section 2.5) and ml-aim's LiT


class Contrastive(Implementation[DualEncoder]):
    """The network and embeddings of both. The mean of the processes' gradients is that of one process with all pairs.

    Attributes:
        temperature, bias: initial values; the config may set another temperature.
        max_scale: upper bound of the inverse temperature.
    """

    temperature: ClassVar[float]
    bias: ClassVar[float | None] = None
    max_scale: ClassVar[float] = math.inf

    def network(self, config: RunConfig) -> DualEncoder:
        temperature = config.objective.temperature or self.temperature
        return DualEncoder(config.model, temperature=temperature, bias=self.bias, max_scale=self.max_scale)

    def losses(self, model: DualEncoder, batch: Batch, config: RunConfig) -> Losses:
        image_BS = model.embed_images(batch.image, visible_prefix(config.model, batch.prefix_len_B))
        text_BS = model.embed_texts(batch.token_BT, batch.text_len_B)
        contrast = self.contrast(model.similarity, image_BS, text_BS)
        return Losses(contrast, {"contrastive_loss": contrast})

    @abstractmethod
    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        """Return the loss of this process's pairs against those of all processes."""


class CLIP(Contrastive):
    """Symmetric InfoNCE over the images and texts of all processes (arXiv 2103.00020): each computes the whole loss."""

    temperature = 0.07  # CLIP, ml-l3m
    max_scale = MAX_SCALE

    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        return softmax_contrast(similarity(gathered(image_BS)[0], gathered(text_BS)[0]))


class SigLIP(Contrastive):
    """Binary classification of each image-text pair (arXiv 2303.15343), of a process's images with all texts."""

    temperature = 0.1  # section 3.2: t' = log 10, b = -10
    bias = -10.0

    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        texts_CS, first = gathered(text_BS)
        return sigmoid_contrast(similarity(image_BS, texts_CS), first)
