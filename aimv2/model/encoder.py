"""The vision encoder: a pre-norm ViT whose attention is prefix-masked in training and full in use."""

import torch
from torch import Tensor, nn

from aimv2.config import ModelConfig
from aimv2.model.layers import NORM_EPS, Block, init_block_
from aimv2.model.masks import prefix_mask


class Encoder(nn.Module):
    """Patches to features. No CLS token, no registers, no pooling (paper section 2.2, ml-aim).

    Letters: B images, I patches in raster order, D width.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder.width
        self.num_patches = config.num_patches
        self.patch_embed = nn.Conv2d(3, width, kernel_size=config.patch_px, stride=config.patch_px)
        self.patch_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.pos_embed = nn.Parameter(torch.empty(1, config.num_patches, width))
        self.blocks = nn.ModuleList(Block(config.encoder) for _ in range(config.encoder.depth))
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)

    def forward(self, image: Tensor, prefix_len_B: Tensor | None = None) -> Tensor:
        """Encode images.

        Args:
            image: [B, 3, image_px, image_px], normalised with the ImageNet statistics.
            prefix_len_B: int64 [B], the prefix lengths of training; None is full attention, as for any later use of
                the encoder (section 2.2).

        Returns:
            [B, I, D], after the final norm.
        """
        x_BID = self.patch_embed(image).flatten(2).transpose(1, 2)
        # Under autocast the product comes out in bfloat16; the residual stream is in the weights' precision.
        x_BID = self.patch_norm(x_BID.to(self.pos_embed.dtype)) + self.pos_embed
        mask = None if prefix_len_B is None else prefix_mask(prefix_len_B, self.num_patches)
        for block in self.blocks:
            x_BID = block(x_BID, mask)
        return self.norm(x_BID)

    def init_weights_(self, generator: torch.Generator) -> None:
        """Source: ml-l3m. The patch kernel is Xavier-uniform on its flattened form, as in MAE; its bias is torch's."""
        kernel = self.patch_embed.weight
        nn.init.xavier_uniform_(kernel.view(kernel.shape[0], -1), generator=generator)
        assert self.patch_embed.bias is not None
        bound = kernel[0].numel() ** -0.5
        nn.init.uniform_(self.patch_embed.bias, -bound, bound, generator=generator)
        nn.init.normal_(self.pos_embed, std=0.02, generator=generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            init_block_(block, generator)
