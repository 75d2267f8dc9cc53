"""The network that is distilled from a teacher: an encoder with a linear layer to the teacher's width."""

from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.model.encoder import Encoder
from aimv2.model.initial import Distribution, constant, xavier_uniform
from aimv2.model.network import Network


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
