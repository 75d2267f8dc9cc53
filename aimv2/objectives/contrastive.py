"""What the objectives share whose networks are two encoders."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from aimv2.config.run_config import RunConfig
from aimv2.cost import Part, encoder_cost, image_head_cost, similarity_cost, text_tower_cost
from aimv2.objectives.base import Losses, Objective, visible_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aimv2.data.batches import Batch
    from aimv2.model.dual_encoder import DualEncoder, Similarity


class Contrastive(Objective):
    """Matches images with their captions.

    Attributes:
        temperature, bias: at the start, unless the config says otherwise.
        max_scale: of the inverse temperature.
    """

    attention = "bidirectional"
    reports = ("retrieval",)
    reads = ("temperature",)
    temperature: ClassVar[float]
    bias: ClassVar[float | None]
    max_scale: ClassVar[float]

    def network(self, config: RunConfig) -> DualEncoder:
        from aimv2.model.dual_encoder import DualEncoder

        temperature = config.objective.temperature or self.temperature
        return DualEncoder(config.model, temperature=temperature, bias=self.bias, max_scale=self.max_scale)

    def losses(self, model: nn.Module, batch: Batch, config: RunConfig) -> Losses:
        from aimv2.model.dual_encoder import DualEncoder

        assert isinstance(model, DualEncoder)
        image_BS = model.embed_images(batch.image, visible_prefix(config.model, batch.prefix_len_B))
        text_BS = model.embed_texts(batch.token_BT, batch.text_len_B)
        contrast = self.contrast(model.similarity, image_BS, text_BS)
        return Losses(contrast, {"contrastive_loss": contrast})

    @abstractmethod
    def contrast(self, similarity: Similarity, image_BS: Tensor, text_BS: Tensor) -> Tensor:
        """The loss of this process's pairs against those of all processes."""

    def cost(self, config: RunConfig) -> list[Part]:
        similarity = similarity_cost(config, has_bias=self.bias is not None)
        return [encoder_cost(config), image_head_cost(config), text_tower_cost(config), similarity]
