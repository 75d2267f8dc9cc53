"""Time the encoder beside timm's and transformers' with the same weights, after checking that their features agree.

A row has the time of an image, the rate, its share of that of the FFN's first matrix product, which is timed in the
same repeats, and the time over that of ours.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from aimv2.analysis.costs.ratios import relative
from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.model_config import ModelConfig
from aimv2.config.recipes.scales import SCALES
from aimv2.config.run_config import RunConfig
from aimv2.cost.modules import encoder_cost
from aimv2.cost.parts import forward_flops
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.tools.weights.layouts import ML_AIM, PUBLISHED, TRANSFORMERS, Source, WeightsConfig, to_theirs
from benchmarks.options import Precision, TimedOnDevice
from benchmarks.results import Cell, Table
from benchmarks.timing import CLOCKS, interleaved
from benchmarks.training import PRECISIONS, PRODUCT, encoder_config, product

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative difference of features that count as equal
CUDA_BATCH = 32


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EncoderOptions(TimedOnDevice):
    """Which encoder to time on what; None is the default that the help describes."""

    scale: str = Field(default="vit_l", description=f"scale of the encoder ({', '.join(SCALES)})")
    depth: int | None = Field(default=None, gt=0, description="blocks; the default is the scale's", examples=["4"])
    batch_size: int | None = Field(
        default=None, gt=0, description=f"images per call; the default is 1, and {CUDA_BATCH} on CUDA", examples=["1"]
    )


def measure(options: EncoderOptions) -> Iterator[Table]:
    """Yield a table for each precision.

    Raises:
        UsageError: the scale is unknown, or a package to compare with is missing.
        RunFailedError: the implementations compute different features.
    """
    config, device = encoder_config(options.scale, options.depth), options.found_device
    batch_size = options.batch_size or (CUDA_BATCH if device == "cuda" else 1)
    sizes = config.model.encoder
    for precision in PRECISIONS:
        seconds, product_flops = time_all(config, precision, options, batch_size=batch_size, device=device)
        flops = dict[str, float].fromkeys(seconds, forward_flops([encoder_cost(config)], batch_size, 0))
        yield Table(
            f"encoder of {config.scale}, {precision}",
            rows(seconds, flops | {PRODUCT: product_flops}, batch_size),
            f"{sizes.depth} blocks of width {sizes.width}; {batch_size} images of {config.model.image_px} px",
        )


def time_all(
    config: RunConfig, precision: Precision, options: EncoderOptions, *, batch_size: int, device: str
) -> tuple[dict[str, np.ndarray], int]:
    """Time the three encoders with one set of weights, and a matrix product: seconds per call, float64 [R] each; and
    the product's FLOPs.

    Raises:
        RunFailedError: the features differ.
    """
    model, dtype = config.model, PRECISIONS[precision]
    encoder = Encoder(model).eval()
    init_weights_(encoder, seed=0)
    encoder.to(device, dtype)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch_size, 3, model.image_px, model.image_px, generator=generator).to(device, dtype)
    encoders = implementations(encoder, model)
    calls: dict[str, Callable[[], object]] = {name: partial(encode, image) for name, encode in encoders.items()}
    calls[PRODUCT], product_flops = product(config, batch_size, device, dtype)
    # Not earlier: with weights made in inference mode, torch.matmul takes a slower path for some layouts of its input.
    with torch.inference_mode():
        require_same(encoders, image, TOLERANCE[precision])
        return interleaved(calls, options.repeats, clock=CLOCKS[options.clock]), product_flops


def implementations(encoder: Encoder, config: ModelConfig) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return functions from images to features: ours, timm's and transformers', with the same weights (no copies).

    Raises:
        UsageError: a package cannot be imported.
    """
    try:
        import timm
        import transformers
        from timm.models.vision_transformer import checkpoint_filter_fn
    except ImportError as error:
        raise UsageError(
            f"the benchmark compares with timm and transformers, but: {error}; install them with:"
            " pip install 'aimv2-ablations[dev]'"
        ) from error
    sizes = WeightsConfig(
        source=Source(layout="run", file="benchmark", dtypes=()),
        image_px=config.image_px,
        patch_px=config.patch_px,
        patch_order=config.patch_order,
        encoder=config.encoder,
    )
    of_timm: Any = timm.create_model(
        "aimv2_large_patch14_224",
        img_size=config.image_px,
        patch_size=config.patch_px,
        embed_dim=config.encoder.width,
        depth=config.encoder.depth,
        num_heads=config.encoder.num_heads,
        mlp_ratio=(config.encoder.ffn_hidden + 0.5) / config.encoder.width,  # timm rounds down
        num_classes=0,
    )
    of_transformers: Any = transformers.Aimv2VisionModel(
        transformers.Aimv2VisionConfig(**PUBLISHED[0].description(sizes))
    )
    ours = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    of_apple = checkpoint_filter_fn(to_theirs(ours, ML_AIM), of_timm)  # timm renames Apple's tensors
    for other, state in ((of_timm, of_apple), (of_transformers, to_theirs(ours, TRANSFORMERS))):
        other.load_state_dict(state, strict=True, assign=True)
        other.to(encoder.norm.weight.device).eval()  # buffers are not in the state
    return {
        "ours": encoder,
        "timm": of_timm.forward_features,
        "transformers": lambda image: of_transformers(pixel_values=image).last_hidden_state,
    }


def require_same(encoders: Mapping[str, Callable[[Tensor], Tensor]], image: Tensor, tolerance: float) -> None:
    """Refuse to compare encoders that compute different functions.

    Raises:
        RunFailedError: features differ from the first encoder's by more than the tolerance, relative to their norm.
    """
    (_, ours), *others = ((name, encode(image).float()) for name, encode in encoders.items())
    for name, theirs in others:
        error = float((theirs - ours).norm() / ours.norm())
        if not error <= tolerance:
            raise RunFailedError(
                "bug",
                f"features of {name} differ from ours by {error:.2g} of their norm, more than rounding's {tolerance:g}",
            )


def rows(seconds: Mapping[str, np.ndarray], flops: Mapping[str, float], batch_size: int) -> list[dict[str, Cell]]:
    """Return a row per call: its median, its rate and that as a share of the product's, and its time over ours."""
    medians = {name: float(np.median(seconds_R)) for name, seconds_R in seconds.items()}
    rates = {name: flops[name] / median for name, median in medians.items()}
    is_encoder = {name: name != PRODUCT for name in seconds}
    return [
        {
            "encoder": name,
            "ms / image": 1000 * medians[name] / batch_size if is_encoder[name] else None,
            "GFLOP / s": rates[name] / 1e9,
            "of the product's": rates[name] / rates[PRODUCT],
            "its time / ours": relative(seconds[name], seconds["ours"])
            if is_encoder[name] and name != "ours"
            else None,
        }
        for name in seconds
    ]
