"""Distillation: an encoder learns to have the features of a larger one that is trained already.

Apple has published an AIMv2-L that was distilled from AIMv2-3B, but not how. The objective is ours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.model.encoder import Encoder
from aimv2.model.initial import Distribution, constant, xavier_uniform
from aimv2.model.network import Network
from aimv2.objectives.base import Implementation, Losses, visible_prefix
from aimv2.start.network import load_teacher


class Student(Network):
    """An encoder, and the layer that makes its features comparable with those of a teacher of another width.

    Letters: B images, I patches, D width of the encoder, E width of the teacher.
    """

    def __init__(self, config: ModelConfig, teacher_width: int) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = nn.Linear(config.encoder.width, teacher_width)

    def forward(self, image: Tensor, prefix_len_B: Tensor | None = None) -> Tensor:
        """Return what the student makes of the teacher's features: [B, I, E]."""
        features_BIE: Tensor = self.head(self.encoder(image, prefix_len_B))
        return features_BIE

    def initial(self) -> dict[str, Distribution]:
        """Declare the initial distributions of the layer: ours, those of the encoder's linear layers and no bias."""
        return {"head.weight": xavier_uniform(), "head.bias": constant(0)}


class Distillation(Implementation[Student]):
    """1 minus the cosine between the student's features, after a linear layer, and the teacher's: mean over patches.

    Both see the same images. The teacher has full attention, and so has the student unless the config says otherwise.
    """

    def __init__(self, model: Student, config: RunConfig) -> None:
        super().__init__(model, config)
        weight = model.head.weight
        self.teacher = load_teacher(config).to(device=weight.device, dtype=weight.dtype)

    @classmethod
    def network(cls, config: RunConfig) -> Student:
        teacher = config.start.teacher_encoder
        assert teacher is not None, "with_start() fills in the teacher's sizes"
        return Student(config.model, teacher.width)

    def forward(self, batch: Batch) -> Losses:
        with torch.no_grad():
            target_BIE = self.teacher(batch.image)
        predicted_BIE = self.model(batch.image, visible_prefix(self.config.model, batch.prefix_len_B))
        loss = _distance(predicted_BIE, target_BIE).mean(dim=1).sum() / batch.each(batch.num_images)
        return Losses(loss, {"distillation_loss": loss})


def _distance(one_BIE: Tensor, other_BIE: Tensor) -> Tensor:
    """Return 1 minus the cosine of each patch, [B, I], in float32 or wider whatever the precision of the run."""
    dtype = torch.promote_types(one_BIE.dtype, torch.float32)
    return 1 - F.cosine_similarity(one_BIE.to(dtype), other_BIE.to(dtype), dim=-1)
