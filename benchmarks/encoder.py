"""Time AIMv2's encoder of ViT-L beside timm's with the same weights, whose features must agree. Images are noise.

A row has the time of an image, the rate, its share of that of the FFN's first matrix product, which is timed in the
same repeats, and the time over that of ours.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.model_config import ModelConfig
from aimv2.config.recipes.scales import vit_l
from aimv2.config.run_config import RunConfig
from aimv2.cost import encoder_cost, forward_flops
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.request.resolve import with_attention
from aimv2.tools.weights.layouts import ML_AIM, to_theirs
from benchmarks.timing import (
    CLOCKS,
    PRECISIONS,
    PRODUCT,
    Cell,
    Precision,
    Table,
    TimedOnDevice,
    interleaved,
    product,
    relative,
)

DEPTH = 24
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative difference of features that count as equal


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderOptions(TimedOnDevice):
    """What the encoders are timed on."""

    patches: tuple[int, ...] = Field(default=(256,), description="patches per image, square numbers")
    precisions: tuple[Precision, ...] = Field(default=("float32", "bfloat16"), description="of weights and activations")
    batch_size: int = Field(default=1, gt=0, description="images per call")
    depth: int = Field(default=DEPTH, gt=0, description="blocks of both encoders; fewer for a quick look")


def measure(options: EncoderOptions) -> Iterator[Table]:
    for patches in options.patches:
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            raise UsageError(f"patches={patches} is not the square of a number of patches per side, such as 256 or 576")
        for precision in options.precisions:
            rows = list(time_both(options, patches, precision))
            yield Table(f"encoders, {patches} patches, {precision}, batches of {options.batch_size}", rows)


def time_both(options: EncoderOptions, patches: int, precision: Precision) -> Iterator[dict[str, Cell]]:
    device, dtype, batch_size = options.resolved_device, PRECISIONS[precision], options.batch_size
    config = encoder_config(options.depth, 14 * math.isqrt(patches))
    ours = Encoder(config.model).eval()
    init_weights_(ours, seed=0)
    ours.to(device, dtype)
    theirs, px = timms(ours, config.model), config.model.image_px
    image = torch.randn(batch_size, 3, px, px, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    calls: dict[str, Callable[[], object]] = {"ours": partial(ours, image), "timm": partial(theirs, image)}
    calls[PRODUCT], product_flops = product(config, batch_size, device, dtype)
    # Not earlier: with weights made in inference mode, torch.matmul takes a slower path for some layouts of its input.
    with torch.inference_mode():
        require_same(theirs(image), ours(image), TOLERANCE[precision])
        seconds = interleaved(calls, options.repeats, clock=CLOCKS[options.clock])
    flops = batch_size * forward_flops([encoder_cost(config)], 1, 0)
    for name, seconds_R in seconds.items():
        is_encoder, median = name != PRODUCT, float(np.median(seconds_R))
        rate = (flops if is_encoder else product_flops) / median
        yield {
            "encoder": name,
            "ms / image": 1000 * median / batch_size if is_encoder else None,
            "GFLOP / s": rate / 1e9,
            "of the product's": rate / product_flops * float(np.median(seconds[PRODUCT])),
            "its time / ours": relative(seconds_R, seconds["ours"]) if name == "timm" else None,
        }


def encoder_config(depth: int, image_px: int) -> RunConfig:
    """Return a run of ViT-L with an encoder of this depth for images of this size."""
    config = with_attention(vit_l())
    model = replace(config.model, image_px=image_px, encoder=replace(config.model.encoder, depth=depth))
    return replace(config, model=model, data=replace(config.data, render_px=image_px))


def timms(ours: Encoder, config: ModelConfig) -> Callable[[Tensor], Tensor]:
    """Return AIMv2 of timm, as a function to features, with the weights of ours (no copies)."""
    try:
        import timm
        from timm.models.vision_transformer import checkpoint_filter_fn
    except ImportError as error:
        raise UsageError(f"{error}; install it with: pip install 'aimv2-ablations[dev]'") from error
    model: Any = timm.create_model(
        "aimv2_large_patch14_224",
        img_size=config.image_px,
        patch_size=config.patch_px,
        embed_dim=config.encoder.width,
        depth=config.encoder.depth,
        num_heads=config.encoder.num_heads,
        mlp_ratio=(config.encoder.ffn_hidden + 0.5) / config.encoder.width,  # timm rounds down
        num_classes=0,
    )
    weights = {f"encoder.{key}": value for key, value in ours.state_dict().items()}
    state = checkpoint_filter_fn(to_theirs(weights, ML_AIM), model)  # timm renames Apple's tensors
    model.load_state_dict(state, strict=True, assign=True)
    model.to(ours.norm.weight.device).eval()  # buffers are not in the state
    features: Callable[[Tensor], Tensor] = model.forward_features
    return features


def require_same(theirs: Tensor, ours: Tensor, tolerance: float) -> None:
    """Refuse to compare encoders that compute different functions."""
    error = float((theirs.float() - ours.float()).norm() / ours.float().norm())
    if not error <= tolerance:
        raise RunFailedError(
            "bug", f"features of timm differ from ours by {error:.2g} of their norm, more than rounding's {tolerance:g}"
        )
