"""Decoders: a causal transformer over image and text positions, with a head for each prediction.

Letters: B images, I patches in reading order, T caption tokens, E decoder width, V vocabulary, P values in a patch.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.model.initial import Distribution, normal, truncated_normal, uniform
from aimv2.model.layers import KeyValues, Stack, build_norm, embedding
from aimv2.model.masks import continued_mask, padded_text_mask, parallel_text_mask

Target = Literal["pixels", "tokens"]


@dataclass
class Cache:
    """The state of a decoder that generates captions: keys and values by layer, and the number of tokens read."""

    layers: list[KeyValues]
    num_tokens: int = 0

    def rows(self, row_B: Tensor) -> "Cache":
        """Return the state of these rows of the batch, which this one keeps too."""
        return Cache([[tensor[row_B] for tensor in layer] for layer in self.layers], self.num_tokens)


class Decoder(nn.Module):
    """Map image features and caption tokens to hidden states; a head for each prediction reads them.

    Image positions get no position embedding here unless configured; text positions, BOS first, get a learned one. BOS
    is a learned vector, not an entry of the vocabulary. The heads have no bias and do not share weights with the token
    embedding. A decoder that predicts no tokens reads none.

    Source: paper section 2.2, ml-l3m ``001_aimv2_hfdata.yaml``. Table 1 swaps the headers of d_dec=12 and L_dec=1024;
    Tables 9e and 9f have them right.
    """

    def __init__(self, config: ModelConfig, predicts: tuple[Target, ...], *, is_parallel: bool = False) -> None:
        super().__init__()
        width = config.decoder.width
        self.is_text_first = config.decoder.order == "text_first"
        self.reads_text = "tokens" in predicts
        self.image_proj = nn.Linear(config.encoder.width, width)
        self.image_pos_embed: nn.Parameter | None = None
        if config.decoder.image_positions:
            self.image_pos_embed = nn.Parameter(torch.empty(config.num_patches, width))
        if self.reads_text:
            self.text_embed = embedding(config.vocab_size, width)
            self.bos = nn.Parameter(torch.empty(1, 1, width))
            self.text_pos_embed = nn.Parameter(torch.empty(1 + config.max_text_tokens, width))
        self.mask_token: nn.Parameter | None = nn.Parameter(torch.empty(1, 1, width)) if is_parallel else None
        self.blocks = Stack(config.decoder)
        self.norm = build_norm(config.decoder)
        if "pixels" in predicts:
            self.pixel_head = nn.Linear(width, config.patch_dim, bias=False)
        if self.reads_text:
            self.text_head = nn.Linear(width, config.vocab_size, bias=False)

    def forward(
        self,
        features_BID: Tensor,
        token_BT: Tensor,
        text_len_B: Tensor | None = None,
        num_own_B: Tensor | None = None,
        *,
        is_parallel_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute hidden states after the final norm.

        Args:
            features_BID: encoder output [B, I, D].
            token_BT: int64 [B, T], any T up to ``max_text_tokens``.
            text_len_B: int64 [B], tokens up to and including end-of-text. Only text-first decoders need it, to hide
                padding from the patches.
            num_own_B: int64 [B], patches of each image, if those after them are padding. The caption then follows on
                the image's own patches, so that nothing sees the padding; image-first decoders only.
            is_parallel_B: bool [B], True for captions whose tokens are hidden and predicted in parallel.

        Returns:
            image part [B, I, E], whose position i predicts patch i+1, and text part [B, 1+T, E], whose position t
            predicts token t; the last positions predict nothing. The text part is [B, 0, E] if no tokens are read.
        """
        image_BIE = self._image(features_BID)
        num_patches = image_BIE.shape[1]
        if not self.reads_text:
            x_BLE = self.norm(self.blocks(image_BIE, is_causal=True))
            return x_BLE, x_BLE[:, :0]
        text_BSE = self._text(token_BT, is_parallel_B)
        if num_own_B is not None:
            return self._with_padding_last(image_BIE, text_BSE, num_own_B)
        mask = None
        if self.is_text_first:
            if token_BT.shape[1]:
                assert text_len_B is not None, "a text-first decoder needs text_len_B"
                mask = padded_text_mask(text_len_B, token_BT.shape[1], num_patches)
        elif is_parallel_B is not None:
            mask = parallel_text_mask(is_parallel_B, token_BT.shape[1], num_patches)
        parts = [text_BSE, image_BIE] if self.is_text_first else [image_BIE, text_BSE]
        x_BLE = self.norm(self.blocks(torch.cat(parts, dim=1), mask, is_causal=mask is None))
        if self.is_text_first:
            return x_BLE[:, -num_patches:], x_BLE[:, :-num_patches]
        return x_BLE[:, :num_patches], x_BLE[:, num_patches:]

    def _with_padding_last(self, image_BIE: Tensor, text_BSE: Tensor, num_own_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts of ``forward`` for sequences of an image's own patches, its caption, and padding."""
        B, num_patches, num_text = len(image_BIE), image_BIE.shape[1], text_BSE.shape[1]
        length = num_patches + num_text
        pos_L, num_own_B1 = torch.arange(length, device=num_own_B.device), num_own_B[:, None]
        # Where each position of the two parts, one after the other, is in the sequence.
        after_BL = torch.where(pos_L < num_patches, pos_L + num_text, pos_L - num_patches + num_own_B1)
        place_BL = torch.where(pos_L < num_own_B1, pos_L, after_BL)
        start_B1 = length * torch.arange(B, device=num_own_B.device)[:, None]
        joined_XE = torch.cat([image_BIE, text_BSE], dim=1).flatten(0, 1)
        x_BLE = joined_XE.index_select(0, (start_B1 + place_BL.argsort(dim=1)).flatten()).view(B, length, -1)
        x_BLE = self.norm(self.blocks(x_BLE, is_causal=True))
        parts_BLE = x_BLE.flatten(0, 1).index_select(0, (start_B1 + place_BL).flatten()).view(B, length, -1)
        return parts_BLE[:, :num_patches], parts_BLE[:, num_patches:]

    def read_image(self, features_BID: Tensor) -> Cache:
        """Read everything before BOS, which is nothing in a text-first decoder."""
        if self.is_text_first:
            return Cache([[] for _ in self.blocks])
        return Cache(self.blocks.remember(self._image(features_BID)))

    def read_captions(self, token_BT: Tensor, cache: Cache) -> Tensor:
        """Read whole captions after ``read_image``, and return the text part of ``forward``.

        An image with several captions is so read only once (``Cache.rows``).
        """
        text_BSE = self._text(token_BT)
        num_seen = 0 if self.is_text_first else cache.layers[0][0].shape[2]
        mask = continued_mask(num_seen, text_BSE.shape[1], text_BSE.device)
        hidden_BSE: Tensor = self.norm(self.blocks(text_BSE, mask, caches=cache.layers))
        return hidden_BSE

    def begin(self, features_BID: Tensor) -> tuple[Tensor, Cache]:
        """Read everything before the first caption token: the state [B, E] that predicts it, and the cache."""
        no_token_B0 = torch.empty((len(features_BID), 0), dtype=torch.int64, device=features_BID.device)
        bos_B1E = self._text(no_token_B0)
        start = bos_B1E if self.is_text_first else torch.cat([self._image(features_BID), bos_B1E], dim=1)
        cache = Cache([[] for _ in self.blocks])
        return self.norm(self.blocks(start, is_causal=True, caches=cache.layers)[:, -1]), cache

    def extend(self, token_B: Tensor, cache: Cache) -> Tensor:
        """Read one more token per caption and return the state [B, E] that predicts the next one."""
        cache.num_tokens += 1
        x_B1E = self.text_embed(token_B[:, None]) + self.text_pos_embed[cache.num_tokens]
        next_BE: Tensor = self.norm(self.blocks(x_B1E, is_causal=True, caches=cache.layers)[:, -1])
        return next_BE

    def _image(self, features_BID: Tensor) -> Tensor:
        # Under autocast the projection is bfloat16; the residual stream stays in the precision of the weights.
        image_BIE: Tensor = self.image_proj(features_BID).to(self.image_proj.weight.dtype)
        return image_BIE if self.image_pos_embed is None else image_BIE + self.image_pos_embed

    def _text(self, token_BT: Tensor, is_parallel_B: Tensor | None = None) -> Tensor:
        """Embed BOS and tokens with their positions: [B, 1+T, E]."""
        # Flattened, the vectors get gradients with their own strides from one image too, as DDP's buckets need them.
        bos_B1E = self.bos.flatten().expand(len(token_BT), 1, -1)
        text_BSE = torch.cat([bos_B1E, self.text_embed(token_BT)], dim=1)
        if is_parallel_B is not None:
            assert self.mask_token is not None, "this decoder was built without parallel prediction"
            text_BSE = torch.where(is_parallel_B[:, None, None], self.mask_token.flatten(), text_BSE)
        return text_BSE + self.text_pos_embed[: text_BSE.shape[1]]

    def initial(self) -> dict[str, Distribution]:
        """Declare the initial distributions.

        Source: ml-l3m. ``image_proj`` has torch's default for linear layers; the heads are truncated normal, with the
        fan-in variance divided by 1 + depth. Image positions and the mask vector, which ml-l3m lacks, follow their
        counterparts for text.
        """
        width, depth = self.image_proj.out_features, len(self.blocks)
        image_proj, head = uniform(self.image_proj.in_features**-0.5), truncated_normal((width * (1 + depth)) ** -0.5)
        return {
            "image_proj.weight": image_proj,
            "image_proj.bias": image_proj,
            "text_embed.weight": normal(0.02),
            "bos": normal(0.02),
            "text_pos_embed": normal(0.01),
            "pixel_head.weight": head,
            "text_head.weight": head,
            "image_pos_embed": normal(0.01),
            "mask_token": normal(0.02),
        }


class SeparateDecoders(nn.Module):
    """Two decoders of the same size: one predicts pixels from features, the other tokens from features and caption.

    Each has its own projection of the features. The interface is that of a joint decoder.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pixels = Decoder(config, ("pixels",))
        self.tokens = Decoder(config, ("tokens",))

    @property
    def pixel_head(self) -> nn.Linear:
        return self.pixels.pixel_head

    @property
    def text_head(self) -> nn.Linear:
        return self.tokens.text_head

    def forward(
        self,
        features_BID: Tensor,
        token_BT: Tensor,
        text_len_B: Tensor | None = None,
        num_own_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        image_BIE, _ = self.pixels(features_BID, token_BT)
        return image_BIE, self.tokens(features_BID, token_BT, num_own_B=num_own_B)[1]

    def read_image(self, features_BID: Tensor) -> Cache:
        return self.tokens.read_image(features_BID)

    def read_captions(self, token_BT: Tensor, cache: Cache) -> Tensor:
        return self.tokens.read_captions(token_BT, cache)

    def begin(self, features_BID: Tensor) -> tuple[Tensor, Cache]:
        return self.tokens.begin(features_BID)

    def extend(self, token_B: Tensor, cache: Cache) -> Tensor:
        return self.tokens.extend(token_B, cache)
