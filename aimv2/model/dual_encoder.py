"""The dual encoder of contrastive objectives: images and texts are embedded in one space.

Letters: B images or texts, I patches, T caption tokens, D encoder width, E text width, H heads, S width of the space.
"""

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.model.encoder import Encoder
from aimv2.model.initial import Distribution, constant, normal, xavier_uniform
from aimv2.model.layers import Stack, build_norm, embedding
from aimv2.model.network import Network


class ImageHead(nn.Module):
    """Attention pooling with one learned query, then a projection without bias.

    The query is not projected; keys and values are projected without bias, the pooled vector with bias. This is
    ml-aim's LiT head; ml-l3m's CLIP uses a CLS token, which this encoder does not have.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder.width
        self.num_heads = config.encoder.num_heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.proj = nn.Linear(width, config.tower.embed_dim, bias=False)

    def forward(self, features_BID: Tensor) -> Tensor:
        """Embed [B, I, D] as [B, S], not normalised."""
        B, num_patches, D = features_BID.shape
        k_BHId, v_BHId = (
            self.key_value(features_BID)
            .view(B, num_patches, 2, self.num_heads, D // self.num_heads)
            .permute(2, 0, 3, 1, 4)
        )
        q_BH1d = self.query.to(k_BHId.dtype).view(1, self.num_heads, 1, -1).expand(B, -1, -1, -1)
        pooled_BD = self.out(F.scaled_dot_product_attention(q_BH1d, k_BHId, v_BHId).reshape(B, D))
        image_BS: Tensor = self.proj(pooled_BD)
        return image_BS

    def initial(self) -> dict[str, Distribution]:
        return {
            "query": normal(0.02),
            "key_value.weight": xavier_uniform(num_fused=2),
            "out.weight": xavier_uniform(),
            "out.bias": constant(0),
            "proj.weight": normal(self.proj.in_features**-0.5),
        }


class TextTower(nn.Module):
    """Causal text encoder, pooled at end-of-text, then a projection without bias (ml-aim's LiT text tower)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stack, embed_dim = config.tower
        self.text_embed = embedding(config.vocab_size, stack.width)
        self.text_pos_embed = nn.Parameter(torch.empty(config.max_text_tokens, stack.width))
        self.blocks = Stack(stack)
        self.norm = build_norm(stack)
        self.proj = nn.Linear(stack.width, embed_dim, bias=False)

    def forward(self, token_BT: Tensor, text_len_B: Tensor) -> Tensor:
        """Embed [B, T] as [B, S], not normalised.

        Args:
            text_len_B: int64 [B], tokens up to and including end-of-text, 1..T.
        """
        x_BTE = self.text_embed(token_BT) + self.text_pos_embed[: token_BT.shape[1]]
        x_BTE = self.blocks(x_BTE, is_causal=True)
        pooled_BE = self.norm(x_BTE[torch.arange(len(token_BT), device=token_BT.device), text_len_B - 1])
        text_BS: Tensor = self.proj(pooled_BE)
        return text_BS

    def initial(self) -> dict[str, Distribution]:
        """Declare the initial distributions: the projection's as in CLIP, the others as in the decoder."""
        return {
            "text_embed.weight": normal(0.02),
            "text_pos_embed": normal(0.01),
            "proj.weight": normal(self.proj.in_features**-0.5),
        }


class Similarity(nn.Module):
    """Cosine similarity times a learned scale (the inverse temperature), plus an optional learned bias.

    ``temperature`` and ``bias`` are initial values; ``max_scale`` bounds the scale.
    """

    def __init__(self, temperature: float, bias: float | None, max_scale: float = math.inf) -> None:
        super().__init__()
        self._start = {"logit_scale": math.log(1 / temperature)} | ({} if bias is None else {"logit_bias": bias})
        self._max_logit_scale = math.log(max_scale)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.logit_bias = None if bias is None else nn.Parameter(torch.empty(()))

    @property
    def scale(self) -> Tensor:
        # Above the cap the value is clamped but the gradient is kept, so that the scale can decrease again.
        beyond = (self.logit_scale - self._max_logit_scale).clamp(min=0).detach()
        return (self.logit_scale - beyond).exp()

    def forward(self, image_BS: Tensor, text_CS: Tensor) -> Tensor:
        """Return the logits [B, C] of unit vectors, in float32 or wider whatever the precision of the run."""
        with contextlib.nullcontext() if image_BS.is_meta else torch.autocast(image_BS.device.type, enabled=False):
            logits_BC = self.scale * (image_BS @ text_CS.T)
            return logits_BC if self.logit_bias is None else logits_BC + self.logit_bias

    def initial(self) -> dict[str, Distribution]:
        return {name: constant(value) for name, value in self._start.items()}


class DualEncoder(Network):
    """Image encoder, text encoder and the similarity of their outputs."""

    def __init__(
        self, config: ModelConfig, *, temperature: float, bias: float | None = None, max_scale: float = math.inf
    ) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.image_head = ImageHead(config)
        self.text_tower = TextTower(config)
        self.similarity = Similarity(temperature, bias, max_scale)

    def embed_images(self, image: Tensor, prefix_len_B: Tensor | None = None) -> Tensor:
        """Embed images as unit vectors: float32 or wider [B, S]."""
        return _unit(self.image_head(self.encoder(image, prefix_len_B)))

    def embed_texts(self, token_BT: Tensor, text_len_B: Tensor) -> Tensor:
        """Embed texts as unit vectors: float32 or wider [B, S]."""
        return _unit(self.text_tower(token_BT, text_len_B))


def _unit(vector_BS: Tensor) -> Tensor:
    return F.normalize(vector_BS.to(torch.promote_types(vector_BS.dtype, torch.float32)), dim=-1)
