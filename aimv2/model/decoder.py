"""The multimodal decoder: one causal transformer over image positions, then text positions."""

import torch
from torch import Tensor, nn

from aimv2.config import ModelConfig
from aimv2.model.layers import NORM_EPS, Block, init_block_

TRUNCATED_STD = 0.87962566103423978  # deviation that a standard normal keeps when cut at -2 and 2


class Decoder(nn.Module):
    """Image features and caption tokens to hidden states, from which two separate heads predict.

    Letters: B images, I patches, T caption tokens, E decoder width, V vocabulary.

    Image positions get no position embedding here; text positions, BOS first, get a learned one. BOS is a learned
    vector and no entry of the vocabulary. The heads have no bias and share nothing with the token embedding.

    Source: paper section 2.2, ml-l3m ``001_aimv2_hfdata.yaml``. Table 1 prints d_dec=12 and L_dec=1024 with the headers
    swapped; Tables 9e and 9f settle it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.decoder.width
        self.num_patches = config.num_patches
        self.image_proj = nn.Linear(config.encoder.width, width)
        self.text_embed = nn.Embedding(config.vocab_size, width)
        self.bos = nn.Parameter(torch.empty(1, 1, width))
        self.text_pos_embed = nn.Parameter(torch.empty(1 + config.max_text_tokens, width))
        self.blocks = nn.ModuleList(Block(config.decoder) for _ in range(config.decoder.depth))
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.pixel_head = nn.Linear(width, config.patch_dim, bias=False)
        self.text_head = nn.Linear(width, config.vocab_size, bias=False)

    def forward(self, features_BID: Tensor, token_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states after the final norm.

        Args:
            features_BID: encoder output [B, I, D].
            token_BT: int64 [B, T], any T up to ``max_text_tokens``.

        Returns:
            image part [B, I, E], whose position i predicts patch i+1 (the last predicts nothing); text part
            [B, 1+T, E], whose position t predicts token t (the last predicts nothing).
        """
        B, T = token_BT.shape
        image_BIE = self.image_proj(features_BID)
        text_BTE = torch.cat([self.bos.expand(B, -1, -1), self.text_embed(token_BT)], dim=1)
        text_BTE = text_BTE + self.text_pos_embed[: 1 + T]
        # Under autocast the projection comes out in bfloat16; the residual stream stays in the weights' precision.
        x_BLE = torch.cat([image_BIE.to(text_BTE.dtype), text_BTE], dim=1)
        for block in self.blocks:
            x_BLE = block(x_BLE, is_causal=True)
        x_BLE = self.norm(x_BLE)
        return x_BLE[:, : self.num_patches], x_BLE[:, self.num_patches :]

    def init_weights_(self, generator: torch.Generator) -> None:
        """Source: ml-l3m. ``image_proj`` is torch's default for linear layers; the heads are truncated normal with
        the fan-in variance divided by 1 + depth."""
        bound = self.image_proj.in_features**-0.5
        nn.init.uniform_(self.image_proj.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.image_proj.bias, -bound, bound, generator=generator)
        nn.init.normal_(self.text_embed.weight, std=0.02, generator=generator)
        nn.init.normal_(self.bos, std=0.02, generator=generator)
        nn.init.normal_(self.text_pos_embed, std=0.01, generator=generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            init_block_(block, generator)
        for head in (self.pixel_head, self.text_head):
            std = (head.in_features * (1 + len(self.blocks))) ** -0.5 / TRUNCATED_STD
            nn.init.trunc_normal_(head.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
