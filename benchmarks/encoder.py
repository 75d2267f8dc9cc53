"""Time AIMv2's encoder of ViT-L beside timm's with the same weights, whose features must agree, and beside the encoders
of CLIP, SigLIP and DINOv2 of the same size, at as many patches. Images are noise.

A row has the time of an image, the rate, its share of that of the FFN's first matrix product, which is timed in the
same repeats, and the time over that of ours.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.model_config import ModelConfig
from aimv2.config.recipes.scales import vit_l
from aimv2.config.run_config import RunConfig
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.request.resolve import with_attention
from aimv2.tools.weights_layouts import ML_AIM, to_theirs
from benchmarks.timing import (
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

Name = Literal["ours", "timm", "clip", "siglip", "dinov2"]
TIMM: dict[Name, str] = {  # without their pooling
    "clip": "vit_large_patch14_clip_224",
    "siglip": "vit_large_patch16_siglip_256",
    "dinov2": "vit_large_patch14_dinov2",
}
PATCH_PX = dict.fromkeys(get_args(Name), 14) | {"siglip": 16}
DEPTH = 24
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative difference of features that count as equal


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderOptions(TimedOnDevice):
    """Which encoders to time, on what."""

    models: tuple[Name, ...] = Field(default=get_args(Name), description="encoders; ours is always one of them")
    patches: tuple[int, ...] = Field(default=(256,), description="patches per image, square numbers")
    precisions: tuple[Precision, ...] = Field(default=("float32", "bfloat16"), description="of weights and activations")
    batch_size: int = Field(default=1, gt=0, description="images per call")
    depth: int = Field(default=DEPTH, gt=0, description="blocks of all encoders; fewer for a quick look")


def measure(options: EncoderOptions) -> Iterator[Table]:
    """Yield a table for each number of patches and precision."""
    for patches in options.patches:
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            raise UsageError(f"patches={patches} is not the square of a number of patches per side, such as 256 or 576")
        for precision in options.precisions:
            rows = list(time_all(options, patches, precision))
            yield Table(f"encoders, {patches} patches, {precision}, batches of {options.batch_size}", rows)


def time_all(options: EncoderOptions, patches: int, precision: Precision) -> Iterator[dict[str, Cell]]:
    """Yield a row for each encoder and for the product."""
    names: list[Name] = ["ours", *(name for name in options.models if name != "ours")]
    device, dtype, batch_size = options.resolved_device, PRECISIONS[precision], options.batch_size
    side = {name: math.isqrt(patches) * PATCH_PX[name] for name in names}
    config = encoder_config(options.depth, side["ours"])
    ours = Encoder(config.model).eval()
    init_weights_(ours, seed=0)
    ours.to(device, dtype)
    encoders = {name: build(name, ours, config.model, side[name], options.depth) for name in names}
    images = {
        name: torch.randn(batch_size, 3, px, px, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        for name, px in side.items()
    }
    calls: dict[str, Callable[[], object]] = {name: partial(encoders[name], images[name]) for name in names}
    calls[PRODUCT], product_flops = product(config, batch_size, device, dtype)
    # Not earlier: with weights made in inference mode, torch.matmul takes a slower path for some layouts of its input.
    with torch.inference_mode():
        if "timm" in encoders:
            require_same(encoders["timm"](images["ours"]), ours(images["ours"]), TOLERANCE[precision])
        seconds = interleaved(calls, options.repeats)
    flops = {name: batch_size * counted_flops(name, config.model, side[name], options.depth) for name in names}
    for name, seconds_R in seconds.items():
        is_encoder, median = name != PRODUCT, float(np.median(seconds_R))
        rate = (flops[name] if is_encoder else product_flops) / median  # type: ignore[index]
        yield {
            "encoder": name,
            "ms / image": 1000 * median / batch_size if is_encoder else None,
            "GFLOP / s": rate / 1e9,
            "of the product's": rate / product_flops * float(np.median(seconds[PRODUCT])),
            "its time / ours": relative(seconds_R, seconds["ours"]) if is_encoder and name != "ours" else None,
        }


def encoder_config(depth: int, image_px: int) -> RunConfig:
    """Return a run of ViT-L with an encoder of this depth for images of this size."""
    config = with_attention(vit_l())
    model = replace(config.model, image_px=image_px, encoder=replace(config.model.encoder, depth=depth))
    return replace(config, model=model, data=replace(config.data, render_px=image_px))


def build(name: Name, ours: Encoder, config: ModelConfig, image_px: int, depth: int) -> Callable[[Tensor], Any]:
    """Return an encoder for images of this size: a function to features, with the weights of ours if it is AIMv2."""
    if name == "ours":
        return ours
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f"models={name}: {error}; install it with: pip install 'aimv2-ablations[dev]', or leave it out:"
            " models=[ours]"
        ) from error
    if name == "timm":
        return _same(ours, config)
    encoder: nn.Module = timm.create_model(
        TIMM[name], img_size=image_px, depth=depth, num_classes=0, global_pool="", pretrained=False
    )
    return encoder.eval().to(ours.norm.weight.device, ours.norm.weight.dtype)


def _same(ours: Encoder, config: ModelConfig) -> Callable[[Tensor], Tensor]:
    """Return AIMv2 of timm with the weights of ours (no copies)."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

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


def counted_flops(name: Name, config: ModelConfig, image_px: int, depth: int) -> int:
    """Return the FLOPs of an encoder per image, counted by torch on the meta device, which computes nothing."""
    with torch.device("meta"):
        ours = Encoder(config).eval()
        encoder = ours if name == "timm" else build(name, ours, config, image_px, depth)
        # torch 2.13 does not count the default CPU attention; it counts the math backend in full. Gradients are on,
        # because torch does not count the fused attention that open_clip's blocks call without them.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            encoder(torch.empty(1, 3, image_px, image_px))
    return int(counter.get_total_flops())


def require_same(theirs: Tensor, ours: Tensor, tolerance: float) -> None:
    """Refuse to compare encoders whose features differ by more than the tolerance, relative to their norm."""
    error = float((theirs.float() - ours.float()).norm() / ours.float().norm())
    if not error <= tolerance:
        raise RunFailedError(
            "bug", f"features of timm differ from ours by {error:.2g} of their norm, more than rounding's {tolerance:g}"
        )
