"""Contrastive pre-training with a sigmoid per pair: SigLIP (arXiv 2303.15343)."""

import math

from torch import Tensor

from aimv2.losses import gathered, sigmoid_contrast
from aimv2.model.dual_encoder import Similarity
from aimv2.objectives.contrastive import Contrastive


class SigLIP(Contrastive):
    """Binary classification of each image-text pair, with a learned temperature and bias.

    A process scores its images against the texts of all. The mean of their gradients is the gradient of one process
    with all pairs.
    """

    temperature = 0.1  # arXiv 2303.15343, section 3.2: t' = log 10, b = -10
    bias = -10.0
    max_scale = math.inf

    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        texts_CS, first = gathered(text_BS)
        return sigmoid_contrast(similarity(image_BS, texts_CS), first)
