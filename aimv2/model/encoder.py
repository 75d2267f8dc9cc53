"""The vision encoder: a pre-norm ViT whose attention may be masked in training and is full afterwards."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.model.initial import Distribution, normal, uniform, xavier_uniform
from aimv2.model.layers import Stack, build_norm
from aimv2.model.masks import prefix_mask
from aimv2.model.positions import in_reading_order, sincos, sincos_of_grids


class Encoder(nn.Module):
    """Map images to patch features. No CLS token, no registers, no pooling (paper section 2.2, ml-aim).

    Letters: B images, I patches in reading order, D width.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder.width
        self.grid = config.grid
        self.patch_order = config.patch_order
        self.patch_embed = nn.Conv2d(3, width, kernel_size=config.patch_px, stride=config.patch_px)
        self.patch_norm = build_norm(config.encoder)
        self.pos_embed: nn.Parameter | None = None
        if config.encoder.positions == "learned":
            self.pos_embed = nn.Parameter(torch.empty(1, config.num_patches, width))
        self.blocks = Stack(config.encoder)
        self.norm = build_norm(config.encoder)

    def forward(self, image: Tensor, prefix_len_B: Tensor | None = None, grid_B2: Tensor | None = None) -> Tensor:
        """Encode images.

        Args:
            image: [B, 3, image_px, image_px], normalised with the ImageNet statistics. With sin-cos positions and
                raster order, height and width may be any multiples of the patch size.
            prefix_len_B: int64 [B], prefix lengths in training; None is full attention, for every later use of the
                encoder (section 2.2).
            grid_B2: int64 [B, 2], rows and columns of each image, if ``image`` has strips of patches (``strips``).
                Under a prefix or causal mask no patch of an image sees the padding after it.

        Returns:
            [B, I, D], after the final norm.
        """
        B, patch_px = len(image), self.patch_embed.kernel_size[0]
        num_rows, num_columns = (side // patch_px for side in image.shape[-2:])
        # The patch convolution as one product, which is faster than conv2d on the CPU.
        cells = image.reshape(B, 3, num_rows, patch_px, num_columns, patch_px)
        patch_BIP = cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x_BID = F.linear(patch_BIP, self.patch_embed.weight.flatten(1), self.patch_embed.bias)
        pos_embed = None if self.pos_embed is None else self.pos_embed.squeeze(0)  # as the decoder's vectors
        if pos_embed is None:
            sizes = (x_BID.shape[-1], x_BID.device)
            if grid_B2 is None:
                pos_embed = sincos(num_rows, num_columns, *sizes)
            else:
                pos_embed = sincos_of_grids(grid_B2, num_columns, sizes[0])
            pos_embed = pos_embed.to(self.patch_norm.weight.dtype)
        # Under autocast the product is bfloat16; the residual stream stays in the precision of the weights.
        x_BID = self.patch_norm(x_BID.to(pos_embed.dtype)) + pos_embed
        x_BID = in_reading_order(x_BID, self.patch_order, self.grid)
        mask = None if prefix_len_B is None else prefix_mask(prefix_len_B, x_BID.shape[1])
        features_BID: Tensor = self.norm(self.blocks(x_BID, mask))
        return features_BID

    def initial(self) -> dict[str, Distribution]:
        """Declare the initial distributions.

        Source: ml-l3m. The flattened patch kernel is Xavier-uniform, as in MAE; its bias has torch's default.
        """
        return {
            "patch_embed.weight": xavier_uniform(),
            "patch_embed.bias": uniform(self.patch_embed.weight[0].numel() ** -0.5),
            "pos_embed": normal(0.02),
        }
