"""The cost of each part of a network in closed form, and the FLOPs and parameters of all parts together.

A multiply and an add are 2 FLOPs; norms, activations and softmax are left out. Letters: I patches, T caption tokens, D
encoder width, E decoder or text width, F FFN hidden, P values in a patch, S width of a shared space, L positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from aimv2.config.model_config import EncoderConfig, ModelConfig, TransformerConfig

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig  # which imports the objectives, and they this


BACKWARD_PER_FORWARD = 2  # a gradient for the weights and one for the inputs


class Blocks(NamedTuple):
    """A stack of blocks."""

    number: int  # of blocks
    parameters: int  # weights of one block
    input: float  # float32 values per image that a block reads
    saved: float  # values per image of one block, as ``Part.saved``
    working: float  # values per image that the backward pass of one block holds at once, besides the saved ones
    released: float  # values per image of a block that its backward pass releases before it holds the most
    after: float  # values per image that the part saves after the blocks


@dataclass(frozen=True, kw_only=True)
class Part:
    """FLOPs, parameters and activation memory of one part of the network."""

    name: str
    module: str  # dotted name of the part in the run's network
    parameters: int  # weights of the module without those of other parts within it
    # FLOPs per image of products with weights and of similarities, forward. Those of the pixel head count every patch,
    # although training computes only those after the prefixes: runs whose samples were matched by them keep them.
    products: float
    attention: float = 0  # FLOPs per image of scores and mixing, forward, for every query with every key
    useful_attention: float = 0  # the part of ``attention`` that the mask lets through, averaged over prefix lengths
    per_token: float = 0  # FLOPs for each supervised token, forward; only these are projected to the vocabulary
    of_input: float = 0  # the part of ``products`` with the input or a frozen encoder's features: no gradient needed
    saved: float = 0  # float32 values per image for the backward pass by torch's CPU kernels; fused ones save less
    saved_in_product: float = 0  # the part of ``saved`` outside of the blocks that has the precision of matrix products
    saved_per_token: float = 0  # as ``saved``, for each supervised token
    is_frozen: bool = False  # True if the part is not trained, and so has no backward pass, gradients or moments
    working: float = 0  # values per image that the backward pass outside the blocks holds besides the saved ones
    working_per_token: float = 0  # the same for each supervised token
    is_of_batch: bool = False  # True if they are held for the whole batch, however it is cut into micro-batches
    blocks: Blocks | None = None  # the part's stack of blocks, which ``saved`` and ``parameters`` include


def forward_flops(parts: Iterable[Part], num_images: int, num_tokens: int) -> int:
    """Return the FLOPs of a forward pass with this many supervised tokens in all."""
    return round(sum(num_images * (part.products + part.attention) + num_tokens * part.per_token for part in parts))


def train_flops(parts: Sequence[Part], num_images: int, num_tokens: int) -> int:
    """Return the FLOPs of a forward and a backward pass with this many supervised tokens in all."""
    trained = [part for part in parts if not part.is_frozen]
    of_input = round(num_images * sum(part.of_input for part in trained))
    backward = BACKWARD_PER_FORWARD * forward_flops(trained, num_images, num_tokens) - of_input
    return forward_flops(parts, num_images, num_tokens) + backward


def train_flops_by_area(parts: Mapping[int, Sequence[Part]], num_images: Mapping[int, int], num_tokens: int) -> int:
    """Return the FLOPs of training on images of several areas, with this many supervised tokens in all."""
    total, rest = 0, num_tokens  # a token costs as much with every area
    for area, count in num_images.items():
        total, rest = total + train_flops(parts[area], count, rest), 0
    return total


def num_parameters(parts: Iterable[Part]) -> int:
    """Return the number of weights in all parts."""
    return sum(part.parameters for part in parts)


MAX_LOGITS = 2**25  # that exist at once: 128 MB in float32, more than a thousand tokens of a vocabulary of 32,000


def encoder_cost(config: RunConfig, area: int | None = None) -> Part:
    """Return the cost of the patch embedding and the blocks."""
    part = encoder_part(config.model, config.model.encoder, useful_share=visible_share(config, area), area=area)
    if is_encoder_frozen(config):  # the parts that read the features save them
        patches = area or config.model.num_patches
        return replace(part, saved=patches * config.model.encoder.width, saved_in_product=0, is_frozen=True)
    return part


def encoder_part(model: ModelConfig, encoder: EncoderConfig, *, useful_share: float, area: int | None = None) -> Part:
    """Return the cost of an encoder of which the mask lets through a share of the query-key pairs."""
    patches = area or model.num_patches
    embed = 2 * patches * model.patch_dim * encoder.width
    parameters = (model.patch_dim + 1) * encoder.width + _norm_parameters(encoder)
    if encoder.positions == "learned":
        parameters += model.num_patches * encoder.width
    # Saved besides the blocks' values: the image, and values of the norms of patches and of features.
    saved = patches * model.patch_dim + 2 * patches * _saved_by_norm(encoder)
    part = Part(
        name="encoder",
        module="encoder",
        parameters=parameters,
        products=embed,
        of_input=embed,
        saved=saved,
        saved_in_product=patches * model.patch_dim,
    )
    has_mask = encoder.attention in ("prefix", "causal")
    return _with_blocks(part, encoder, patches, useful_share=useful_share, has_mask=has_mask)


def is_encoder_frozen(config: RunConfig) -> bool:
    return "encoder" in config.start.frozen


def decoder_cost(
    config: RunConfig,
    name: str,
    module: str,
    *,
    reads_text: bool,
    is_parallel: bool = False,
    area: int | None = None,
) -> Part:
    """Return the cost of projecting the image features and of the blocks over them and, with text, BOS and T tokens."""
    model = config.model
    patches, D, E = area or model.num_patches, model.encoder.width, model.decoder.width
    length = patches + (1 + model.max_text_tokens if reads_text else 0)
    text = length - patches
    parallel_fraction = config.objective.parallel_fraction if is_parallel else 0
    seen = length * (length + 1) / 2 + parallel_fraction * text * (text - 1) / 2
    vectors = (model.vocab_size + 1 + text) * reads_text + patches * model.decoder.image_positions + is_parallel
    # The heads save copies of the states that they read, so the last norm's output is not saved.
    saved = length * (_saved_by_norm(model.decoder) - E)
    project = 2 * patches * D * E
    part = Part(
        name=name,
        module=module,
        parameters=(D + 1 + vectors) * E,
        products=project,
        of_input=is_encoder_frozen(config) * project,
        saved=saved,
    )
    has_mask = bool(parallel_fraction) or (reads_text and model.decoder.order == "text_first")
    return _with_blocks(part, model.decoder, length, useful_share=seen / length**2, has_mask=has_mask)


def pixel_head_cost(config: RunConfig, module: str, area: int | None = None) -> Part:
    model = config.model
    patches, E, P = area or model.num_patches, model.decoder.width, model.patch_dim
    scored = patches - float(config.prefix.pmf(patches) @ np.arange(1, patches + 1))  # averaged over prefix lengths
    # Saved: the states, and the differences between predictions and targets.
    saved = scored * (E + P)
    # The gradient of the differences' squares takes as much three times.
    return Part(
        name="pixel head",
        module=module,
        parameters=E * P,
        products=2 * patches * E * P,
        saved=saved,
        working=3 * scored * P,
    )


def text_head_cost(config: RunConfig, module: str) -> Part:
    model = config.model
    E, V = model.decoder.width, model.vocab_size
    # Besides the logarithms of probabilities, which are saved, the backward pass holds two gradients of the logits.
    return Part(
        name="text head",
        module=module,
        parameters=E * V,
        products=0,
        per_token=2 * E * V,
        saved_per_token=E + V,
        working_per_token=2 * V,
    )


def image_head_cost(config: RunConfig) -> Part:
    """Return the cost of attention pooling with one query and of the projection into the shared space."""
    model = config.model
    patches, D, S = model.num_patches, model.encoder.width, model.tower.embed_dim
    return Part(
        name="image head",
        module="image_head",
        parameters=D + 3 * D * D + D + D * S,
        products=2 * (2 * patches * D * D + D * D + D * S),
        of_input=is_encoder_frozen(config) * 4 * patches * D * D,
        attention=4 * patches * D,
        useful_attention=4 * patches * D,
        saved=2 * patches * D + 2 * D + 2 * S,
    )


def text_tower_cost(config: RunConfig) -> Part:
    stack, embed_dim = config.model.tower
    length = config.model.max_text_tokens
    part = Part(
        name="text tower",
        module="text_tower",
        parameters=(config.model.vocab_size + length + embed_dim) * stack.width,
        products=2 * stack.width * embed_dim,
        saved=2 * stack.width + 2 * embed_dim,
    )
    return _with_blocks(part, stack, length, useful_share=(length + 1) / (2 * length), has_mask=False)


def visible_share(config: RunConfig, area: int | None = None) -> float:
    """Return the share of the encoder's query-key pairs that the training mask lets through, averaged over prefix
    lengths."""
    patches = area or config.model.num_patches
    attention = config.model.encoder.attention
    assert attention != "auto", "resolve() replaces it by the objective's own"
    if attention != "prefix":
        return 1.0 if attention == "bidirectional" else (patches + 1) / (2 * patches)
    prefix_I = np.arange(1, patches + 1)
    seen_I = prefix_I**2 + (patches * (patches + 1) - prefix_I * (prefix_I + 1)) / 2
    return float(config.prefix.pmf(patches) @ seen_I) / patches**2


def _with_blocks(part: Part, config: TransformerConfig, length: int, *, useful_share: float, has_mask: bool) -> Part:
    """Add a stack of blocks, and the norm after it, to the part of their embeddings."""
    D, F = config.width, config.ffn_hidden
    is_gated = config.ffn == "swiglu"
    weights = 4 * D**2 + (3 if is_gated else 2) * D * F
    attention = config.depth * 4 * length**2 * D
    # Saved per position: norms; q, k and v, the mixed values and each head's normaliser; for the FFN gate, up and the
    # input of the down projection, or GELU's input and output. All blocks share the mask.
    by_block = length * (2 * _saved_by_norm(config) + 4 * D + config.num_heads + (3 if is_gated else 2) * F)
    # The most is held within the FFN: the gradient of the block's output, and those of the FFN's hidden values.
    blocks = Blocks(
        number=config.depth,
        parameters=weights + 2 * _norm_parameters(config),
        input=length * D,
        saved=by_block,
        working=length * (D + (2 if is_gated else 1) * F),
        released=length * F,
        after=min(part.saved, length * _saved_by_norm(config)),
    )
    return replace(
        part,
        parameters=part.parameters + config.depth * weights + (2 * config.depth + 1) * _norm_parameters(config),
        products=part.products + config.depth * 2 * length * weights,
        attention=attention,
        useful_attention=attention * useful_share,
        saved=part.saved + config.depth * blocks.saved + has_mask * length**2,
        saved_in_product=part.saved_in_product + has_mask * length**2,
        blocks=blocks,
    )


def _norm_parameters(config: TransformerConfig) -> int:
    return (1 if config.norm == "rms" else 2) * config.width


def _saved_by_norm(config: TransformerConfig) -> int:
    """Return the values saved per position: input, statistics and output."""
    return 2 * config.width + (1 if config.norm == "rms" else 2)


def encoder_decoder_cost(
    config: RunConfig,
    predicts: tuple[Literal["pixels", "tokens"], ...],
    *,
    is_parallel: bool = False,
    area: int | None = None,
) -> list[Part]:
    """Return the parts of an encoder with one or two decoders and their heads."""
    if config.native.areas and area is None:
        return _mean_over_areas(config, partial(encoder_decoder_cost, config, predicts, is_parallel=is_parallel))
    parts = [encoder_cost(config, area)]
    if config.model.decoder.sharing == "separate":
        pixels, tokens = "decoder.pixels", "decoder.tokens"
        parts.append(decoder_cost(config, "pixel decoder", pixels, reads_text=False, area=area))
        parts.append(decoder_cost(config, "token decoder", tokens, reads_text=True, area=area))
    else:
        pixels = tokens = "decoder"
        reads_text = "tokens" in predicts
        parts.append(
            decoder_cost(config, "decoder", "decoder", reads_text=reads_text, is_parallel=is_parallel, area=area)
        )
    if "pixels" in predicts:
        parts.append(pixel_head_cost(config, f"{pixels}.pixel_head", area))
    if "tokens" in predicts:
        parts.append(text_head_cost(config, f"{tokens}.text_head"))
    return parts


def _mean_over_areas(config: RunConfig, cost: Callable[..., list[Part]]) -> list[Part]:
    """Return the mean of the parts of all areas, by their probability and the images that share I patches."""
    native, patches = config.native, config.model.num_patches
    weights = [chance * patches / area for chance, area in zip(native.pmf().tolist(), native.areas, strict=True)]
    by_area = [cost(area=area) for area in native.areas]
    counted = (
        "products",
        "attention",
        "useful_attention",
        "per_token",
        "of_input",
        "saved",
        "saved_in_product",
        "saved_per_token",
    )
    return [
        replace(
            parts[0],
            **{
                name: sum(weight * getattr(part, name) for weight, part in zip(weights, parts, strict=True))
                for name in counted
            },
        )
        for parts in zip(*by_area, strict=True)
    ]


def dual_encoder_cost(config: RunConfig, *, has_bias: bool) -> list[Part]:
    """Return the parts of an image encoder, a text tower and their similarity, which may have a learned bias."""
    B, S = config.budget.batch_size, config.model.tower.embed_dim
    # Every image of a batch is compared with every text, with a learned scale.
    similarity = Part(
        name="similarity",
        module="similarity",
        parameters=1 + has_bias,
        products=2 * B * S,
        saved=2 * B,
        is_of_batch=True,
    )
    return [encoder_cost(config), image_head_cost(config), text_tower_cost(config), similarity]
