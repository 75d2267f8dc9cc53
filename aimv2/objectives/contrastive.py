"""The network and embeddings that contrastive objectives share."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import Batch
from aimv2.model.dual_encoder import DualEncoder, Similarity
from aimv2.objectives.base import Implementation, Losses, visible_prefix


class Contrastive(Implementation[DualEncoder]):
    """Matches images with their captions.

    Attributes:
        temperature, bias: initial values; the config may set another temperature.
        max_scale: upper bound of the inverse temperature.
    """

    temperature: ClassVar[float]
    bias: ClassVar[float | None]
    max_scale: ClassVar[float]

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
