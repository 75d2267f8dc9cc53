"""Contrastive pre-training with a softmax over the batch: CLIP (arXiv 2103.00020)."""

from torch import Tensor

from aimv2.losses import gathered, softmax_contrast
from aimv2.model.dual_encoder import Similarity
from aimv2.objectives.contrastive import Contrastive

MAX_SCALE = 100.0  # CLIP (arXiv 2103.00020, section 2.5) and ml-aim's LiT


class CLIP(Contrastive):
    """Symmetric InfoNCE over the images and texts of all processes, with a learned temperature.

    Every process computes the whole loss. The mean of their gradients is the gradient of one process with all pairs.
    """

    temperature = 0.07  # CLIP, ml-l3m
    bias = None
    max_scale = MAX_SCALE

    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        return softmax_contrast(similarity(gathered(image_BS)[0], gathered(text_BS)[0]))
