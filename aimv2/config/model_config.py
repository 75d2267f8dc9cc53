"""The model part of a run's config: encoder, decoder and text tower, and the sizes of inputs and outputs."""

from typing import Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED, MAX_PX

# Far beyond any model of this kind: a typing error is refused before it takes all the memory.
MAX_WIDTH = 2**16
MAX_DEPTH = 2**10
MAX_VOCAB = 2**24
FFN_MULTIPLE = 256  # of ml-l3m


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TransformerConfig:
    """Width, depth and heads of a stack of pre-norm blocks, whose linear layers have no bias (paper section 2.2).

    Attributes:
        norm: ``rms`` is the paper's; ``layer`` is LayerNorm with gain and shift, as in AIM v1.
        ffn: ``swiglu`` is the paper's; ``gelu`` is AIM v1's two-layer MLP.
        ffn_multiple: the hidden width of SwiGLU is rounded up to a multiple of it; 256 in ml-l3m (``ffn.py``). Ladders
            of narrow models need a smaller one, because 256 gives widths of 48 and 96 the same FFN.
    """

    width: int = Field(gt=0, le=MAX_WIDTH)
    depth: int = Field(gt=0, le=MAX_DEPTH)
    num_heads: int = Field(gt=0, le=MAX_WIDTH)
    norm: Literal["rms", "layer"] = "rms"
    ffn: Literal["swiglu", "gelu"] = "swiglu"
    ffn_multiple: int = Field(default=FFN_MULTIPLE, gt=0, le=MAX_WIDTH)

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width={self.width} is not divisible by num_heads={self.num_heads}")

    @property
    def ffn_hidden(self) -> int:
        """Width of the FFN. SwiGLU: 2/3 of 4 x width, rounded up to a multiple of ``ffn_multiple``, 2816 at width 1024.
        GELU: 4 x width (AIM v1), which has the same number of weights except for the rounding."""
        if self.ffn == "gelu":
            return 4 * self.width
        return -(-int(4 * self.width * 2 / 3) // self.ffn_multiple) * self.ffn_multiple


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderConfig(TransformerConfig):
    """The vision encoder.

    Attributes:
        attention: the mask in training; every later use has full attention. ``prefix`` (the paper's) shows the first M
            patches to all patches and is causal after them. ``causal`` and ``bidirectional`` do not depend on M, which
            then only selects the patches that a pixel loss scores: those after the prefix. Under ``bidirectional`` the
            features have seen them. (``prefix.law=causal`` is a causal mask with all patches scored.) ``auto`` is the
            objective's own: prefix, but bidirectional for cappa, clip and siglip.
        positions: ``learned``, a vector per patch, as in all fixed-resolution models; ``sincos``, a function of row and
            column that takes images of any size, as in AIM v1 and the native-resolution AIMv2-L.
    """

    attention: Literal["auto", "prefix", "causal", "bidirectional"] = "auto"
    positions: Literal["learned", "sincos"] = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"width={self.width} is not a multiple of 4, as positions=sincos requires")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DecoderConfig(TransformerConfig):
    """The decoder over image features and caption tokens.

    Attributes:
        sharing: ``joint`` (the paper's) is one decoder for patches and tokens; ``separate`` is two of the same size,
            one that predicts patches from the image features, and one that predicts tokens from the image features and
            the caption. The paper compares them in Table 9d but does not describe the separate ones.
        order: the part that comes first. ``image_first`` is the paper's, never ablated; with ``text_first`` captions
            are predicted without the image, and patches with the caption.
        image_positions: True adds a learned position to the image features here too; the released code adds none.
    """

    sharing: Literal["joint", "separate"] = "joint"
    order: Literal["image_first", "text_first"] = "image_first"
    image_positions: bool = False


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TextTowerConfig:
    """The text encoder of contrastive objectives: causal, pooled at end-of-text (ml-aim's LiT tower).

    Attributes:
        width, depth, num_heads: None is the decoder's, so that objectives are compared at similar size. 768, 12 and 6
            in LiT.
        embed_dim: width of the space that images and texts share; None is the tower's width, as in LiT.
    """

    width: int | None = Field(default=None, gt=0, le=MAX_WIDTH)
    depth: int | None = Field(default=None, gt=0, le=MAX_DEPTH)
    num_heads: int | None = Field(default=None, gt=0, le=MAX_WIDTH)
    embed_dim: int | None = Field(default=None, gt=0, le=MAX_WIDTH)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ModelConfig:
    """The parts of the network and the sizes of inputs and outputs. The objective decides which parts a run has.

    Attributes:
        image_px: side of the square input image.
        patch_px: side of a square patch; 224 px images and 14 px patches in the paper.
        vocab_size: rows of the token embedding, at least the tokens of the tokenizer; 32,000 in the paper.
        max_text_tokens: T, tokens of a caption after truncation and padding; 77 in the paper.
        patch_order: order in which patches are read and predicted. ``raster`` (the paper's) goes row by row; ``spiral``
            outwards from the centre; ``random`` is one permutation for all images and runs (AIM v1 Table 3b).
    """

    encoder: EncoderConfig
    decoder: DecoderConfig
    text_tower: TextTowerConfig = TextTowerConfig()
    image_px: int = Field(gt=0, le=MAX_PX)
    patch_px: int = Field(gt=0)
    vocab_size: int = Field(gt=2, le=MAX_VOCAB)
    max_text_tokens: int = Field(gt=1, le=MAX_PX)
    patch_order: Literal["raster", "spiral", "random"] = "raster"

    def __post_init__(self) -> None:
        if self.image_px % self.patch_px:
            raise ValueError(f"image_px={self.image_px} is not a multiple of patch_px={self.patch_px}")
        if self.num_patches < 2:
            raise ValueError(
                f"patch_px={self.patch_px} makes one patch of an image of {self.image_px} px; at least two are needed"
            )
        tower, decoder = self.text_tower, self.decoder
        width, num_heads = tower.width or decoder.width, tower.num_heads or decoder.num_heads
        if width % num_heads:
            raise ValueError(
                f"text_tower: width={width} is not divisible by num_heads={num_heads} (None is the decoder's)"
            )

    @property
    def grid(self) -> int:
        """Patches along a side: 16 at 224 px with 14 px patches."""
        return self.image_px // self.patch_px

    @property
    def num_patches(self) -> int:
        """I: 256 at 224 px with 14 px patches."""
        return self.grid**2

    @property
    def patch_dim(self) -> int:
        """Values in a patch: 588 at 14 px."""
        return 3 * self.patch_px**2

    @property
    def tower(self) -> "Tower":
        """The text tower: its own sizes where given, else the decoder's; the norm and FFN are the decoder's."""
        own, decoder = self.text_tower, self.decoder
        stack = TransformerConfig(
            width=own.width or decoder.width,
            depth=own.depth or decoder.depth,
            num_heads=own.num_heads or decoder.num_heads,
            norm=decoder.norm,
            ffn=decoder.ffn,
            ffn_multiple=decoder.ffn_multiple,
        )
        return Tower(stack, own.embed_dim or stack.width)


class Tower(NamedTuple):
    """The blocks of a text tower, and the width of the space that it shares with images."""

    stack: TransformerConfig
    embed_dim: int
