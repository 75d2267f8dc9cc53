"""Contrastive pre-training with a sigmoid per pair: SigLIP (arXiv 2303.15343)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aimv2.objectives.contrastive import Contrastive

if TYPE_CHECKING:
    from torch import Tensor

    from aimv2.model.dual_encoder import Similarity


class SigLIP(Contrastive):
    """Each image against each text by itself, with a learned temperature and bias.

    A process scores its images against the texts of all; averaging gradients over processes, as DDP does, gives the
    gradient of one.
    """

    temperature = 0.1  # arXiv 2303.15343, section 3.2: t' = log 10, b = -10
    bias = -10.0
    max_scale = math.inf

    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        from aimv2.losses import gathered, sigmoid_contrast

        texts_CS, first = gathered(text_BS)
        return sigmoid_contrast(similarity(image_BS, texts_CS), first)
